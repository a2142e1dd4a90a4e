"""Every operation as an HTTP route; no logic."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from colony import __version__, errors, schema
from colony.operations import OPERATIONS, Operation
from server import metrics, openapi, scrape
from server.gate import Gate
from server.identity import Credentials, peer_uid
from server.shortcut import Shortcut, View
from server.stream import Streams

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_REQUEST_BYTES = 6 * schema.MAX_BODY_BYTES + 16_384  # JSON may escape each byte of a body as six
log = logging.getLogger(__name__)


def mount(app: Flask, gate: Gate) -> None:
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.url_map.merge_slashes = False  # a missing name would lead to another operation: from nobody's token to a user called token
    streams = Streams(gate.config.max_streams, lambda: gate.waiters.is_closed)
    shortcut = Shortcut(app.wsgi_app, _problem)
    for operation in OPERATIONS.values():
        view = _streaming_view(gate, streams, operation) if operation.streams else _view(gate, operation)
        app.add_url_rule(_rule(operation), operation.name, _through_flask(view), methods=[operation.method])
        shortcut.add(operation, view)
    app.wsgi_app = shortcut  # type: ignore[method-assign]  # Flask's own way to put something in front of it
    app.add_url_rule("/healthz", "healthz", lambda: _healthz(gate))
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(gate, streams))
    app.add_url_rule("/openapi.json", "openapi", lambda: Response(_described(), mimetype="application/json"))
    app.register_error_handler(Exception, lambda error: _problem(error, request))


@cache
def _described() -> str:
    """Made for the first who asks: it takes the schemas of everything, and most servers are never asked."""
    return json.dumps(openapi.document())


def _rule(operation: Operation[Any, Any]) -> str:
    rule = operation.path
    for name in operation.path_fields:
        converter = "int:" if operation.request.model_fields[name].annotation is int else ""
        rule = rule.replace(f"{{{name}}}", f"<{converter}{name}>")
    return rule


class _Answer:
    """WSGI: what an operation found, without what Werkzeug's response could do besides."""

    def __init__(self, found: schema.Response) -> None:
        self._body = found.model_dump_json().encode()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(self._body)))])
        return [self._body]


def _through_flask(view: View) -> Callable[..., WSGIApplication]:
    return lambda **path: view(request, **path)


def _view(gate: Gate, operation: Operation[Any, Any]) -> View:
    def view(came: Request, **path: Any) -> WSGIApplication:
        credentials, turn_header = _credentials(came.environ), came.environ.get("HTTP_COLONY_TURN")
        result = gate.perform(operation, credentials, path, lambda: _sent(operation, came), turn_header, "http")
        return _Answer(result)

    return view


def _streaming_view(gate: Gate, streams: Streams, operation: Operation[Any, Any]) -> View:
    """A stream of server-sent events, or for who asks for JSON an ordinary answer."""

    def view(came: Request, **path: Any) -> WSGIApplication:
        credentials, turn_header = _credentials(came.environ), came.environ.get("HTTP_COLONY_TURN")

        def ask(sent: Callable[[], Mapping[str, Any]]) -> Any:
            return gate.perform(operation, credentials, path, sent, turn_header, "http")

        def sent() -> dict[str, Any]:
            return _continued(operation, came)

        if came.accept_mimetypes.best_match(["text/event-stream", "application/json"]) == "application/json":
            return _Answer(ask(sent))
        return streams.respond(ask, sent, lambda: gate.identify(credentials))

    return view


def _credentials(environ: WSGIEnvironment) -> Credentials:
    kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if kind:
        return Credentials(token=token.strip() if kind.lower() == "bearer" else "-")
    return Credentials(uid=peer_uid(environ.get("gunicorn.socket")))


def _sent(operation: Operation[Any, Any], came: Request) -> dict[str, Any]:
    """The request's fields besides those in its path."""
    if operation.method in ("GET", "DELETE"):
        twice = [name for name in came.args if len(came.args.getlist(name)) > 1]
        if twice:
            raise errors.Invalid(f"{twice[0]}: given more than once")
        return _without_path_fields(operation, came.args.to_dict())
    for name in came.args if came.query_string else ():
        raise errors.Invalid(f"{name}: belongs in the body, not in the query")
    try:
        content = came.environ["wsgi.input"].read(MAX_REQUEST_BYTES)  # as far as the body goes; without Werkzeug's layers in between
    except OSError as error:
        raise errors.Invalid("the body did not arrive") from error
    if len(content) >= MAX_REQUEST_BYTES:
        raise RequestEntityTooLarge
    try:
        sent = json.loads(content.decode()) if content else {}
    except (ValueError, RecursionError) as error:
        raise errors.Invalid(f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(sent, dict):
        raise errors.Invalid("the body must be a JSON object")
    return _without_path_fields(operation, sent)


def _continued(operation: Operation[Any, Any], came: Request) -> dict[str, Any]:
    """The fields, of which a browser that comes back sends one as a header, too: where it was, which counts more than the address."""
    fields, last = _sent(operation, came), came.headers.get("Last-Event-ID")
    is_address_wrong = not re.fullmatch(schema.POSITION_PATTERN, fields.get("since", "0.0"))  # which is refused all the same
    return fields if last is None or is_address_wrong else {**fields, "since": last}


def _without_path_fields(operation: Operation[Any, Any], sent: dict[str, Any]) -> dict[str, Any]:
    for name in operation.path_fields:
        if name in sent:
            raise errors.Invalid(f"{name}: belongs in the path alone")
    return sent


def _healthz(gate: Gate) -> Response:
    with gate.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    return Response(json.dumps({"status": "ok", "version": __version__}), mimetype="application/json")


def _metrics(gate: Gate, streams: Streams) -> Response:
    gate.identify(_credentials(request.environ))  # it names agents: for everyone who belongs here
    return Response(scrape.metrics(gate, streams), content_type=metrics.CONTENT_TYPE)


def _problem(error: Exception, came: Request) -> Response:
    found = _as_colony_error(error, came)
    title = HTTP_STATUS_CODES[found.status]
    body = schema.Problem(title=title, status=found.status, detail=found.detail, code=found.code)
    response = Response(body.model_dump_json(), found.status, mimetype="application/problem+json")
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response


def _as_colony_error(error: Exception, came: Request) -> errors.ColonyError:
    if isinstance(error, errors.ColonyError):
        return error
    if isinstance(error, RequestEntityTooLarge):
        return errors.TooLarge(f"the request is larger than {MAX_REQUEST_BYTES} bytes")
    if isinstance(error, MethodNotAllowed):
        return errors.MethodNotAllowed()
    if isinstance(error, HTTPException):
        return errors.NotFound(f"no {came.path} here") if error.code == 404 else errors.Invalid(error.description)
    log.exception("operation crashed method=%s path=%s", came.method, came.path, exc_info=error)
    return errors.ColonyError()
