"""Statements that run often, compiled once: SQLAlchemy's own work for each execution costs more than the database's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Dialect, Row
from sqlalchemy.engine import result_tuple
from sqlalchemy.exc import DBAPIError

Process = Callable[[Any], Any]


class Prepared:
    """A statement with bound parameters by name.

    It runs on the driver's connection, within the transaction that SQLAlchemy has begun there. Raises SQLAlchemy's errors,
    and `KeyError` for a parameter without a value.
    """

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Row[*tuple[Any, ...]]]:
        """All rows that it returns, as an ordinary execution would give them."""
        return self._for(connection.dialect).execute(connection, values)[1]

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Row[*tuple[Any, ...]] | None:
        """The first row, if there is any."""
        return next(iter(self.rows(connection, values)), None)

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """The first column of the first row; None if there is no row."""
        row = self.first(connection, values)
        return None if row is None else row[0]

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """How many rows it changed."""
        return self._for(connection.dialect).execute(connection, values)[0]

    def _for(self, dialect: Dialect) -> _Compiled:
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = _Compiled(self._statement, dialect)
        return self._compiled[dialect.name]


class _Compiled:
    """The statement for one kind of database."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self._dialect = dialect
        self._text = str(compiled)
        self._error: type[Exception] = dialect.dbapi.Error  # type: ignore[union-attr]
        self._is_positional = bool(compiled.positional)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._names = list(compiled.positiontup or binds)
        self._defaults = {name: compiled.params[name] for name in self._names if not binds[name].required}
        self._processes = _processes(binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in self._names)
        self._columns = list(getattr(statement, "exported_columns", ()))  # a text has none
        self._shape: _Shape | None = None

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> tuple[int, list[Row[*tuple[Any, ...]]]]:
        """How many rows it changed, and those that it returns."""
        bound = _processed([values[name] if name in values else self._defaults[name] for name in self._names], self._processes)
        parameters = bound if self._is_positional else dict(zip(self._names, bound, strict=True))
        try:
            cursor = connection.connection.driver_connection.execute(self._text, parameters)  # type: ignore[union-attr]
            found = cursor.fetchall() if cursor.description else []
        except self._error as error:
            raise DBAPIError.instance(self._text, parameters, error, self._error, dialect=self._dialect) from error
        if not (found and self._columns):  # SQLAlchemy may have asked for a key that the statement doesn't return
            return cursor.rowcount, []
        if self._shape is None:
            self._shape = _Shape(self._columns, cursor.description, self._dialect)
        return cursor.rowcount, self._shape.rows(found)


class _Shape:
    """How the rows look: their names, and what their values become. Some types need the driver's own description for that."""

    def __init__(self, columns: list[Any], description: Any, dialect: Dialect) -> None:
        self._make = result_tuple([name for name, *_ in description])
        types = ((column.type.dialect_impl(dialect), told[1]) for column, told in zip(columns, description, strict=True))
        self._processes = _processes(type_.result_processor(dialect, code) for type_, code in types)

    def rows(self, found: list[tuple[Any, ...]]) -> list[Row[*tuple[Any, ...]]]:
        if not self._processes:
            return [self._make(row) for row in found]
        return [self._make(_processed(list(row), self._processes)) for row in found]


def _processes(found: Iterable[Process | None]) -> list[tuple[int, Process]]:
    """By place, what turns Python's values into the driver's, or these into those; where they are alike there is none."""
    return [(place, process) for place, process in enumerate(found) if process]


def _processed(values: list[Any], processes: list[tuple[int, Process]]) -> list[Any]:
    for place, process in processes:
        values[place] = process(values[place])
    return values
