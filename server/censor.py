"""What must not be said: values of secrets are covered in what anybody says, and an agent that says its honeytoken has been fooled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from colony import operations, schema
from colony.operations import Operation, Q
from colony.schema import FREE_TEXT
from colony.traces import Trace, cover, written
from server import keyring
from server.database import Database
from server.identity import Caller
from server.models import secret


class Censor:
    """Remembers the values in all their forms until it is told to `forget`."""

    def __init__(self, database: Database, keys: Path) -> None:
        self._database, self._keys = database, keys
        self._known: list[dict[int | None, tuple[str, ...]]] = []  # one entry, once it is known: by who speaks, None for all others

    def __repr__(self) -> str:
        return "Censor(…)"

    def covered(self, caller: Caller, request: Q) -> Q:
        """The request with asterisks in the place of secrets, wherever somebody has written freely."""
        said = FREE_TEXT & request.model_fields_set
        if not said or not (values := self._values(caller)):
            return request
        return request.model_copy(update={name: _covered(getattr(request, name), values, is_free=True) for name in said})

    def shown(self, operation: Operation[Any, Any], caller: Caller, response: schema.Response) -> schema.Response:
        """What an agent is told, likewise: it may have been said before it was a secret."""
        is_read = operation.is_tool or operation is operations.CLAIM
        if caller.kind != "agent" or not is_read or not (values := self._values(caller)):
            return response
        told = response.model_dump()
        covered = _covered(told, values)
        return response if covered == told else operation.response.model_validate(covered)

    def is_betrayed(self, caller: Caller, request: schema.Request) -> bool:
        """Whether an agent gives its honeytoken away."""
        if not caller.honeytoken:
            return False
        trace = _trace(caller.honeytoken)
        return any(trace.is_in(text.encode(errors="replace")) for text in _texts(request.model_dump()))

    def target(self, caller: Caller | None, name: str) -> str:
        """What was asked for, as it may be written down."""
        return cover(name, self._values(caller))

    def forget(self) -> None:
        """Secrets have changed."""
        self._known = []

    def _values(self, caller: Caller | None) -> tuple[str, ...]:
        """What must not stand in what the caller says, nor in what an agent is told."""
        known = self._known  # what is read before a `forget` must not be remembered after it
        values = known[0] if known else self._load(known)
        return values[caller.id if caller and caller.id in values else None]

    def _load(self, known: list[dict[int | None, tuple[str, ...]]]) -> dict[int | None, tuple[str, ...]]:
        with self._database.read() as connection:
            found, is_whole = secret.values(connection, lambda: keyring.load(self._keys))
        of_all = found.setdefault(None, set())
        values = {speaker: written(of_all | theirs) for speaker, theirs in found.items()}
        if is_whole:  # what can't be opened may be by the next time
            known.append(values)
        return values


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


def _covered(value: Any, values: tuple[str, ...], *, is_free: bool = False) -> Any:
    match value:
        case str() if is_free:
            return cover(value, values)
        case schema.Usage():
            return value.model_copy(update={"tools": {cover(name, values): count for name, count in value.tools.items()}})
        case list() | tuple():
            return [_covered(each, values) for each in value]
        case Mapping():
            return {name: _covered(each, values, is_free=name in FREE_TEXT) for name, each in value.items()}
        case _:
            return value
