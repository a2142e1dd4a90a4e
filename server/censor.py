"""What must not be said: values of secrets are covered in what anybody says, and an agent that says its honeytoken has been fooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from colony import schema
from colony.operations import Operation
from colony.traces import Trace, cover, written
from server import keyring
from server.database import Database
from server.identity import Caller
from server.models import secret


class Censor:
    """Remembers the values in all their forms until it is told to `forget`."""

    def __init__(self, database: Database, keys: Path) -> None:
        self._database, self._keys = database, keys
        self._known: list[tuple[str, ...]] = []  # one entry, once it is known

    def __repr__(self) -> str:
        return "Censor(…)"

    def covered(self, operation: Operation[Any, Any], fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of a request with asterisks in the place of secrets; where secrets are set, their values stay."""
        if not operation.mutates or not (values := self._values()):
            return fields
        kept = operation.request.unaudited if operation.request is schema.SetSecret else frozenset()
        return {name: value if name in kept else _changed(value, lambda text: cover(text, values)) for name, value in fields.items()}

    def shown(self, operation: Operation[Any, Any], caller: Caller, response: schema.Response) -> schema.Response:
        """What a tool of an agent tells it, likewise: it may have been said before it was a secret."""
        if caller.kind != "agent" or not operation.is_tool or not (values := self._values()):
            return response
        told = response.model_dump()
        covered = _changed(told, lambda text: cover(text, values))
        return response if covered == told else operation.response.model_validate(covered)

    def is_betrayed(self, caller: Caller, fields: Mapping[str, Any]) -> bool:
        """Whether an agent gives its honeytoken away."""
        if not caller.honeytoken:
            return False
        trace = _trace(caller.honeytoken)
        return any(trace.is_in(text.encode(errors="replace")) for text in _texts(fields))

    def forget(self) -> None:
        """Secrets have changed."""
        self._known = []

    def _values(self) -> tuple[str, ...]:
        known = self._known  # what is read before a `forget` must not be remembered after it
        if not known:
            with self._database.read() as connection:
                found = secret.values(connection, lambda: keyring.load(self._keys))
            known.append(written(found))
        return known[0]


@lru_cache(maxsize=1024)
def _trace(honeytoken: str) -> Trace:
    return Trace(honeytoken)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list() | tuple():
            for each in value:
                yield from _texts(each)
        case Mapping():
            for each in (*value, *value.values()):
                yield from _texts(each)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """The same with each of its texts changed."""
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_changed(each, change) for each in value]
        case Mapping():
            return {change(key) if isinstance(key, str) else key: _changed(each, change) for key, each in value.items()}
        case _:
            return value
