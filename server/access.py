"""How a command reaches the colony's database, and what it is told when it can't."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from colony import config, errors
from server import migrations, settings, sqlite_file
from server.database import Database, open_database, sqlite_path

T = TypeVar("T")


def write(url: str, work: Callable[[Connection], T]) -> T:
    """Do one thing in a database that has this code's schema; a server may run beside it. Raises `ColonyError`."""
    with ready(url) as database:
        return database.write(work)


def revision(url: str) -> str | None:
    """The schema's, which may be older than this code's; None for an empty database. Raises `Invalid` for a newer one."""
    with opened(url) as database, database.read() as connection:
        found = migrations.current(connection)
    migrations.require_not_newer(found)
    return found


def upgrade(url: str) -> str | None:
    """Bring the schema up to date; gives the revision it was at before. Raises `Unavailable` if that would be under a running server."""
    make_folder(url)
    with opened(url, is_new=True) as database:
        with database.read() as connection:
            found = migrations.current(connection)
        if found == migrations.HEAD:
            return found
    with held(url), opened(url, is_new=True) as database:
        return database.write(migrations.upgrade)


def set_up(url: str) -> None:
    """Make the database where there is none, and bring it to this code's schema if it is new. Raises `Invalid` for an older one."""

    def work(connection: Connection) -> None:
        if migrations.current(connection) is None:
            migrations.upgrade(connection)
        migrations.require_head(connection)

    make_folder(url)
    with opened(url, is_new=True) as database:
        database.write(work)


@contextmanager
def ready(url: str) -> Iterator[Database]:
    """The database for a while. Raises `Invalid` when its schema is not this code's."""
    with opened(url) as database:
        with database.read() as connection:
            migrations.require_head(connection)
        yield database


@contextmanager
def opened(url: str, *, is_new: bool = False) -> Iterator[Database]:
    """The database for a while. Raises `NotFound` where there is none, unless it may be new, and `Unavailable` with what is wrong."""
    try:
        if path := sqlite_path(url):
            if not is_new:
                require_there(path)
            sqlite_file.require_usable(path)
        database = open_database(url)
        try:
            yield database
        finally:
            database.close()
    except ModuleNotFoundError as error:
        raise errors.Unavailable(f"this database needs a driver: pip install 'colony[postgres]' ({error})") from error
    except SQLAlchemyError as error:
        raise errors.Unavailable(f"can't use {shown(url)}: {getattr(error, 'orig', None) or error}") from error


def require_there(path: Path) -> None:
    """Raises `NotFound`."""
    if not path.exists():
        kept = f"; {settings.HOST_FILE.parent} is root's: try sudo" if settings.HOST_FILE.exists() and not config.keeps_host() else ""
        raise errors.NotFound(f"there is no {path}; name the colony's data folder with --home{kept}")


def file(url: str, otherwise: str) -> Path:
    """The file of an SQLite database. Raises `Invalid` for another: `otherwise` is what to do there, with its `{url}`."""
    if path := sqlite_path(url):
        return path
    plain = make_url(url)._replace(drivername="postgresql", password=None).render_as_string()
    raise errors.Invalid(otherwise.format(url=plain))


def make_folder(url: str) -> None:
    """The folder of a file database, readable by nobody else. Raises `Unavailable`."""
    if path := sqlite_path(url):
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.Unavailable(f"can't create {path.parent}: {error.strerror}") from error


def hold(url: str) -> int | None:
    """Keep other servers from an SQLite file until the descriptor is closed; a PostgreSQL may have several."""
    path = sqlite_path(url)
    return sqlite_file.hold(path) if path else None


@contextmanager
def held(url: str) -> Iterator[None]:
    """The same for a while."""
    descriptor = hold(url)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def shown(url: str) -> str:
    """The database's name for people, without its password."""
    path = sqlite_path(url)
    return str(path) if path else make_url(url).render_as_string(hide_password=True)
