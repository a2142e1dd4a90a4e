"""A colony's SQLite file as a file: who holds it, whether it is sound, and how it is copied."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from pysqlite3 import dbapi2 as driver

from colony import errors

HOLD_SECONDS = 2.0  # how long a server that is just ending is waited for
LOOK_SECONDS = 0.5  # for a look at the file before it is used: some hundred megabytes
LITTLE_BYTES = 256 * 1024  # with less, SQLite can't even make the file that its connections share
BUSY_SECONDS = 5.0
MAX_FINDINGS = 100
_PERHAPS_FULL, _DAMAGED = ("SQLITE_IOERR", "SQLITE_CANTOPEN"), ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def hold(path: Path) -> int:
    """Keep every other server from the file, whatever name it is reached by, until the descriptor is closed; make it if need be.

    The lock is on the file itself, apart from SQLite's own locks: commands may go on using it. A fork shares it.
    Raises `Unavailable` when another server holds it.
    """
    deadline = monotonic() + HOLD_SECONDS
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if monotonic() > deadline:
                raise errors.Unavailable(f"a server is running on {path} already; stop it, or name another folder with --home") from None
            sleep(0.05)
            continue
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # a restore has just put another file there


def require_usable(path: Path) -> None:
    """A look at a file before it is used. Raises `Unavailable`, or one of its kinds, that says in one line what is wrong and what helps."""
    unwritable = next((each for each in (path, path.parent) if each.exists() and not os.access(each, os.W_OK)), None)
    if unwritable:
        raise errors.Unavailable(f"can't write {unwritable}: it must be writable for the server's user, on a disk that is not read-only")
    try:
        _look(path)
    except errors.StorageDamaged as error:
        raise errors.StorageDamaged(f"{error.detail}; `colony-server restore FILE --force` puts a backup in its place") from error


def damage(path: Path) -> list[str]:
    """What SQLite finds wrong in the whole file, a line each; it takes about a second for each gigabyte."""
    try:
        with opened(path) as connection:
            found = [line for row in connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})") for line in row[0].splitlines()]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchmany(MAX_FINDINGS)
    except errors.StorageDamaged as error:
        return [error.detail]
    dangling = [f"{table} {row}: what it refers to in {parent} is not there" for table, row, parent, _ in orphans]
    return [line for line in found if line not in ("ok", "*** in database main ***")] + dangling


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The driver's own connection. Raises `Unavailable`, or one of its kinds, for whatever the file does wrong."""
    try:
        with closing(driver.connect(str(path), isolation_level=None, timeout=BUSY_SECONDS)) as connection:
            yield connection
    except driver.Error as error:
        kind = kind_of(error, path)
        if kind is errors.StorageDamaged:
            raise kind(f"{path} is damaged or no database ({error})") from error
        if kind is errors.StorageFull:
            raise kind(f"the disk that holds {path} is full; free some space") from error
        raise kind(f"can't use {path}: {error}") from error


def kind_of(error: BaseException | None, path: Path) -> type[errors.Unavailable]:
    """Which of the colony's errors an error of SQLite's is."""
    name = getattr(error, "sqlite_errorname", "")  # a backup's errors have none
    if name.startswith("SQLITE_FULL") or ((name.startswith(_PERHAPS_FULL) or not name) and _free_bytes(path) < LITTLE_BYTES):
        return errors.StorageFull
    return errors.StorageDamaged if name.startswith(_DAMAGED) else errors.Unavailable


def _look(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        deadline = monotonic() + LOOK_SECONDS
        connection.set_progress_handler(lambda: monotonic() > deadline, 100)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except driver.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_INTERRUPT":
                raise
            return
    if found != "ok":
        raise errors.StorageDamaged(f"{path} is damaged ({' '.join(found.split())})")


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = "it belongs to another user: chown it, or work as that one" if path.exists() else "name the data folder with --home"
        raise errors.Unavailable(f"can't open {path}: {error.strerror}; {remedy}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise errors.Unavailable(f"{path} is no regular file; name the data folder with --home")
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return LITTLE_BYTES
