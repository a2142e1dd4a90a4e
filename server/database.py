"""The colony's storage: SQLite through one writer, or PostgreSQL. The only place that knows which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pysqlite3 import dbapi2 as driver
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import QueuePool

from colony import errors
from colony.failpoints import reach
from server import sqlite_file
from server.notify import Hear, Notifications
from server.prepared import Prepared
from server.waiters import Topic
from server.writer import Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

TRIES = 5  # for a unit of work on PostgreSQL that collides with another
COLLISIONS = {"23505", "40001", "40P01"}  # unique violation, serialization failure, deadlock
DISK_FULL = "53100"
AWAY = "the colony's database does not answer"
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=5000",
    "cache_size=-8000",
    "wal_autocheckpoint=4000",  # pages, which is 16 MB: those that posts to many inboxes write again and again move to the file once
    "journal_size_limit=67108864",  # what a backup makes the log grow beyond is given back
)
READERS = 8  # connections; requests that wait hold none
_LENIENT_TEXT = partial(str, encoding="utf-8", errors="replace")  # a text with broken bytes must not hide its whole table
FIXED_SQLITE = (3, 51, 3)  # older ones can lose a committed write when two connections checkpoint at once

# Who inserts holds this lock on the table from before the sequence is asked until after the commit is seen.
_WRITING = text(
    "SELECT virtualtransaction FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
    " WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relname = ANY(:tables)"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Database(Protocol):
    @property
    def writer(self) -> Writer | None:
        """Where one writes for all."""

    def read(self) -> AbstractContextManager[Connection]:
        """A context manager: a connection to look things up."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run the work in a transaction; what it returns is durable. It may run more than once before it commits."""

    def size(self, connection: Connection) -> int:
        """Bytes that it takes."""

    def writing(self, connection: Connection, *tables: Table) -> frozenset[str]:
        """The transactions under way that may have taken ids of these tables for rows that nobody sees yet.

        Once all of them have ended, no row appears any more below an id that was seen before the question.
        """

    def publish(self, topics: Sequence[Topic]) -> None:
        """Let the other servers on this database know of these topics, whose news is committed."""

    def subscribe(self, hear: Hear) -> None:
        """Call `hear` with what other servers publish, until `close`; with None where something may have been missed."""

    def close(self) -> None: ...


def open_database(url: str) -> Database:
    """The database at an SQLAlchemy URL. Raises `Invalid` for a kind that a colony can't live on."""
    path = sqlite_path(url)
    return SQLite(path) if path else PostgreSQL(url)


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def sqlite_path(url: str) -> Path | None:
    """The file behind the URL; None for PostgreSQL, which has none. Raises `Invalid` for anything a colony can't live on."""
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise errors.Invalid(f"{url!r} is no database's URL; give sqlite:////path/to/colony.db or postgresql://…") from error
    backend = found.get_backend_name()
    if backend == "postgresql":
        return None
    if backend != "sqlite":
        raise errors.Invalid(f"a colony lives on sqlite or postgresql, not on {backend}")
    if found.database in (None, "", ":memory:"):
        raise errors.Invalid("a colony needs a file to live in: give sqlite:////path/to/colony.db")
    return Path(str(found.database)).absolute()


class SQLite:
    """One file, one writing connection, a few reading ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers = _sqlite_engine(path, "DEFERRED", read_only=True, pool_size=READERS)
        self._writers = _sqlite_engine(path, "IMMEDIATE", read_only=False, pool_size=1)
        self._writing = self._writers.connect()
        self.writer = Writer(self._writing)

    def read(self) -> AbstractContextManager[Connection]:
        return _reading(self._readers, self._translated)

    def write(self, work: Callable[[Connection], T]) -> T:
        try:
            return self.writer.run(work)
        except DatabaseError as error:
            raise self._translated(error) from error

    def size(self, connection: Connection) -> int:
        pages, page = (connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size"))
        return int(pages * page)

    def writing(self, connection: Connection, *tables: Table) -> frozenset[str]:
        """None: ids are given in the order of the commits."""
        return frozenset()

    def publish(self, topics: Sequence[Topic]) -> None:
        """There is no other server on the file."""

    def subscribe(self, hear: Hear) -> None:
        """Nothing will ever be heard."""

    def close(self) -> None:
        self._readers.dispose()
        self._writing.close()  # a pool does not close what is still checked out
        self._writers.dispose()

    def _translated(self, error: DatabaseError) -> Exception:
        kind = sqlite_file.kind_of(error.orig, self._path)
        if kind is errors.Unavailable:
            return errors.Unavailable(AWAY) if isinstance(error, OperationalError) else error
        log.error("%s file=%s error=%s", kind.code, self._path, error.orig)
        return kind()


class PostgreSQL:
    """Ordinary transactions with row locks; several servers may share it."""

    writer = None

    def __init__(self, url: str) -> None:
        self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=READERS, max_overflow=READERS)
        self._notifications = Notifications(self._engine)

    def read(self) -> AbstractContextManager[Connection]:
        return _reading(self._engine, _translated)

    def write(self, work: Callable[[Connection], T]) -> T:
        for tries_left in reversed(range(TRIES)):
            try:
                with self._engine.begin() as connection:
                    result = work(connection)
                    reach("database.before_commit")
                reach("database.committed")
                return result
            except DatabaseError as error:
                # After a collision another try sees what the other did. After anything else this one may have been committed.
                if not tries_left or getattr(error.orig, "sqlstate", None) not in COLLISIONS:
                    raise _translated(error) from error
        raise AssertionError("unreachable")

    def size(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def writing(self, connection: Connection, *tables: Table) -> frozenset[str]:
        return frozenset(connection.execute(_WRITING, {"tables": [table.name for table in tables]}).scalars())

    def publish(self, topics: Sequence[Topic]) -> None:
        self._notifications.publish(topics)

    def subscribe(self, hear: Hear) -> None:
        self._notifications.subscribe(hear)

    def close(self) -> None:
        self._notifications.close()
        self._engine.dispose()


@contextmanager
def _reading(engine: Engine, translated: Callable[[DatabaseError], Exception]) -> Iterator[Connection]:
    try:
        with engine.begin() as connection:  # so that all it reads of a file is of one moment
            yield connection
    except DatabaseError as error:
        raise translated(error) from error


def _sqlite_engine(path: Path, begin: str, *, read_only: bool, pool_size: int) -> Engine:
    if driver.sqlite_version_info < FIXED_SQLITE:
        log.warning("sqlite %s can lose committed writes; install pysqlite3 with sqlite 3.51.3 or newer", driver.sqlite_version)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        module=driver,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # what was used just now has its statements and pages in hand
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.text_factory = _LENIENT_TEXT
        connection.isolation_level = None  # we say BEGIN ourselves: the driver's own way breaks savepoints
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    statement = Prepared(text(f"BEGIN {begin}"))

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        statement.run(connection, {})

    return engine


def _translated(error: DatabaseError) -> Exception:
    """What went wrong with PostgreSQL, in the colony's words."""
    if getattr(error.orig, "sqlstate", None) == DISK_FULL:
        return errors.StorageFull()
    return errors.Unavailable(AWAY) if isinstance(error, OperationalError) else error
