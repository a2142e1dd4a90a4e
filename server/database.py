"""The colony's storage: SQLite through one writer, or PostgreSQL. The only place that knows which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import QueuePool

from colony import errors
from server.writer import Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

TRIES = 5  # for a unit of work on PostgreSQL that collides with another
COLLISIONS = {"23505", "40001", "40P01"}  # unique violation, serialization failure, deadlock
READERS = 8  # connections; requests that wait hold none
_LENIENT_TEXT = partial(str, encoding="utf-8", errors="replace")  # a text with broken bytes must not hide its whole table
FIXED_SQLITE = (3, 51, 3)  # older ones can lose a committed write when two connections checkpoint at once


class Database(Protocol):
    def read(self) -> AbstractContextManager[Connection]:
        """A context manager: a connection to look things up."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run the work in a transaction; what it returns is durable. It may run more than once before it commits."""

    def close(self) -> None: ...


def open_database(url: str) -> Database:
    """The database at an SQLAlchemy URL. Raises `Invalid` for a kind that a colony can't live on."""
    backend = make_url(url).get_backend_name()
    if backend == "sqlite":
        return SQLite(url)
    if backend == "postgresql":
        return PostgreSQL(url)
    raise errors.Invalid(f"a colony lives on sqlite or postgresql, not on {backend}")


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


class SQLite:
    """One file, one writing connection, a few reading ones."""

    def __init__(self, url: str) -> None:
        self._readers = _sqlite_engine(url, "DEFERRED", read_only=True, pool_size=READERS)
        self._writers = _sqlite_engine(url, "IMMEDIATE", read_only=False, pool_size=1)
        self._writing = self._writers.connect()
        self._writer = Writer(self._writing)

    def read(self) -> AbstractContextManager[Connection]:
        return _reading(self._readers)

    def write(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._writer.run(work)
        except DatabaseError as error:
            raise _translated(error) from error

    def close(self) -> None:
        self._readers.dispose()
        self._writing.close()  # a pool does not close what is still checked out
        self._writers.dispose()


class PostgreSQL:
    """Ordinary transactions with row locks."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=READERS, max_overflow=READERS)

    def read(self) -> AbstractContextManager[Connection]:
        return _reading(self._engine)

    def write(self, work: Callable[[Connection], T]) -> T:
        for tries_left in reversed(range(TRIES)):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except DatabaseError as error:
                # After a collision another try sees what the other did. After anything else this one may have been committed.
                if not tries_left or getattr(error.orig, "sqlstate", None) not in COLLISIONS:
                    raise _translated(error) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except DatabaseError as error:
        raise _translated(error) from error


def _sqlite_engine(url: str, begin: str, *, read_only: bool, pool_size: int) -> Engine:
    from pysqlite3 import dbapi2 as driver

    if driver.sqlite_version_info < FIXED_SQLITE:
        log.warning("sqlite %s can lose committed writes; install pysqlite3 with sqlite 3.51.3 or newer", driver.sqlite_version)
    engine = create_engine(
        url, module=driver, poolclass=QueuePool, pool_size=pool_size, max_overflow=0, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.text_factory = _LENIENT_TEXT
        connection.isolation_level = None  # we say BEGIN ourselves: the driver's own way breaks savepoints
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000", "cache_size=-8000"):
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")

    return engine


def _translated(error: DatabaseError) -> Exception:
    """What went wrong with the disk, in the colony's words."""
    name = getattr(error.orig, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL") or getattr(error.orig, "sqlstate", None) == "53100":
        return errors.StorageFull()
    return errors.Unavailable("the colony's database does not answer") if isinstance(error, OperationalError) else error
