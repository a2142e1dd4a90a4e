"""Statements of the hot path, compiled once: there SQLAlchemy's work for each execution costs more than the database's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import ClauseElement


class Prepared:
    """A statement with bound parameters by name, whose rows hold plain numbers and texts.

    It runs on the driver's connection, within the transaction that SQLAlchemy has begun there.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows that it returns. Raises SQLAlchemy's errors, as an ordinary execution would."""
        compiled = self._for(connection.dialect)
        parameters = compiled.bound(values)
        try:
            cursor = connection.connection.driver_connection.execute(compiled.text, parameters)  # type: ignore[union-attr]
            return cursor.fetchall() if cursor.description else []
        except compiled.dbapi_error as error:
            raise DBAPIError.instance(compiled.text, parameters, error, compiled.dbapi_error, dialect=connection.dialect) from error

    def _for(self, dialect: Dialect) -> _Compiled:
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = _Compiled(self._statement, dialect)
        return self._compiled[dialect.name]


class _Compiled:
    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self.dbapi_error: type[Exception] = dialect.dbapi.Error  # type: ignore[union-attr]
        self._is_positional = bool(compiled.positional)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._slots = [(name, compiled.params[name]) for name in compiled.positiontup or binds]
        self._processors = [
            (place, processor) for place, (name, _) in enumerate(self._slots) if (processor := _processor(binds[name], dialect))
        ]

    def bound(self, values: Mapping[str, Any]) -> Any:
        found = [values.get(name, default) for name, default in self._slots]
        for place, processor in self._processors:
            found[place] = processor(found[place])
        return found if self._is_positional else dict(zip((name for name, _ in self._slots), found, strict=True))


def _processor(bind: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """What turns a Python value into the driver's; None where it may stay as it is."""
    return bind.type.dialect_impl(dialect).bind_processor(dialect)  # type: ignore[no-any-return]
