"""A shorter way to the operations than through Flask, whose contexts and hooks take longer than many of them and serve none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response

from colony.operations import Operation

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

View = Callable[..., "WSGIApplication"]  # takes the request, and the fields of its path by name
_FIELD, _END = None, "/"  # keys in the tree that no part of a path can be


class Shortcut:
    """WSGI: what is exactly an operation's method and path goes to its view at once; everything else, to Flask."""

    def __init__(self, otherwise: WSGIApplication, problem: Callable[[Exception, Request], Response]) -> None:
        self._otherwise, self._problem = otherwise, problem
        self._tree: dict[str | None, Any] = {}

    def add(self, operation: Operation[Any, Any], view: View) -> None:
        node = self._tree.setdefault(operation.method, {})
        for part in _parts(operation.path):
            node = node.setdefault(_FIELD if part.startswith("{") else part, {})
        takes_number = {name: operation.request.model_fields[name].annotation is int for name in operation.path_fields}
        node[_END] = view, takes_number

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = self._find(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if found is None:
            return self._otherwise(environ, start_response)
        (view, fields), came = found, Request(environ)
        try:
            answer = view(came, **fields)
        except Exception as error:
            answer = self._problem(error, came)
        return answer(environ, start_response)

    def _find(self, method: str, path: str) -> tuple[View, dict[str, str | int]] | None:
        """The view and the fields in the path; what is not plain is left to Flask."""
        node, given = self._tree.get(method), []
        for part in _parts(path):
            if not node:
                return None
            if part in node:
                node = node[part]
            else:
                node = node.get(_FIELD)
                given.append(part)
        if not node or _END not in node or not path.isascii():
            return None
        view, takes_number = node[_END]
        if not all(part and (not is_number or _is_number(part)) for part, is_number in zip(given, takes_number.values(), strict=True)):
            return None
        return view, {name: int(part) if takes_number[name] else part for name, part in zip(takes_number, given, strict=True)}


def _is_number(part: str) -> bool:
    return part.isdigit() and len(part) < 20


def _parts(path: str) -> list[str]:
    return path.split("/")  # the first is empty: what stands before the root is a part, too
