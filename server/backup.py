"""Copies of an SQLite colony: made while it runs, checked, and put back."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from colony import errors, files
from server import access, migrations, sqlite_file
from server.database import sqlite_url
from server.models import approval, audit, channel, event, posting

_NAME = re.compile(r"colony-\d{8}T\d{6}\.\d{6}Z\.db")
_BESIDE = ("", "-journal", "-wal", "-shm")  # what SQLite puts beside a file, and the file


@dataclass(frozen=True)
class Backup:
    path: Path
    bytes: int
    rows: int
    seconds: float
    deleted: int  # older ones


def make(source: Path, folder: Path, keep: int | None, now: datetime) -> Backup:
    """Copy the database, whether a server runs or not, and check the copy before it gets its name.

    The copy is of one moment and holds whatever was acknowledged before it. Names sort by time; `keep` is how many of them are left
    in the folder. Raises `Unavailable` and its kinds.
    """
    began = monotonic()
    target = folder / f"colony-{now:%Y%m%dT%H%M%S.%f}Z.db"
    with _alone_in(folder), _told(folder):
        rows = _checked_copy(source, partial := folder / ".colony.partial")
        os.rename(partial, target)
        files.sync_folder(folder)
        deleted = _thin_out(folder, target.name, keep) if keep else 0
    return Backup(target, target.stat().st_size, rows, monotonic() - began, deleted)


def restore(source: Path, target: Path, now: datetime) -> Path | None:
    """Put a copy of a backup in the place of the database; gives where the one before is kept. The caller holds the target.

    The copy is checked, brought to this code's schema and told what has happened before the target is touched; then it takes its
    place at once. Raises `Invalid` for what this code can't use, `Unavailable` and its kinds for a damaged backup or a target in use.
    """
    target = target.resolve()  # a link to it stays one
    partial = target.with_name(f"{target.name}.restoring")
    with _told(target):
        try:
            _checked_copy(source, partial)
            with access.opened(sqlite_url(partial)) as database:
                database.write(lambda connection: _arrive(connection, source, _newest(target), now))
            there = target.stat()
            aside = _put_aside(target, now) if there.st_size else None
            _give(partial, there)
            os.replace(partial, target)
            files.sync_folder(target.parent)
        finally:
            _remove(partial)
    return aside


def _give(path: Path, owned: os.stat_result) -> None:
    """Root may restore what belongs to another user, whose server could not open it otherwise."""
    if os.geteuid() == 0:
        os.chown(path, owned.st_uid, owned.st_gid)


def _checked_copy(source: Path, target: Path) -> int:
    """The same in a new file, alone and durable; gives how many rows it holds. What was left of an earlier try is replaced."""
    _remove(target)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with sqlite_file.opened(source) as original:
            original.execute("PRAGMA query_only=ON")
            original.execute("BEGIN")  # what is counted is what is copied
            expected = _rows(original)
            with sqlite_file.opened(target) as copy:
                original.backup(copy)  # in one step: it need not start again whenever somebody writes
                copy.execute("PRAGMA journal_mode=DELETE")  # the copy needs no file beside it
                found = _rows(copy)
        wrong = sqlite_file.damage(target) or ([] if found == expected else [f"{found} rows instead of {expected}"])
        if wrong:
            raise errors.StorageDamaged(f"{source} is damaged ({wrong[0]}); `colony-server check` says more")
    except BaseException:
        _remove(target)
        raise
    return found


def _rows(connection: Any) -> int:
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").fetchall()
    return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables)


def _newest(path: Path) -> event.Position:
    """How far the events of a database have come, as far as it can be read."""
    try:
        with sqlite_file.opened(path) as connection:
            newest = (connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0] for table in ("messages", "audit"))
            return event.Position(*newest)
    except errors.Unavailable:
        return event.Position(0, 0)


def _arrive(connection: Connection, source: Path, before: event.Position, now: datetime) -> None:
    """Make the copy this code's, and tell every channel what it has lost.

    What is new gets ids that were never given before, so that whoever follows the events from a position of then misses nothing.
    """
    if migrations.current(connection) is None:
        raise errors.Invalid(f"{source} is a database, but no colony's")
    migrations.upgrade(connection)
    approval.end_everybody_s(connection)  # what was done since with an approval of then would be done twice
    with event.leap(connection, before, now):
        _tell(connection, source, now)


def _tell(connection: Connection, source: Path, now: datetime) -> None:
    channels = channel.numbered(connection)
    for name, last_seq in [each for each in channels if each[1]] or channels[:1]:  # one at least: its id is the next ones' measure
        body = (
            f"This colony was restored from the backup {source.name}. What was said here after #{last_seq} is gone. "
            "What waited for an answer then is answered, perhaps for the second time; "
            "tokens, rules, statuses and budgets are those of then."
        )
        posting.notice(connection, name, body, f"restored:{now:%Y%m%dT%H%M%S.%f}:{name}", now)
    audit.record(connection, now, "restore", "command", target=source.name)


def _put_aside(target: Path, now: datetime) -> Path:
    """Give the file a second name, under which it stays. Raises `Unavailable` while anybody has it open."""
    with suppress(errors.StorageDamaged), sqlite_file.opened(target) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # takes in the log, for which it must be alone
    aside = target.with_name(f"{target.name}.until-{now:%Y%m%dT%H%M%S.%f}Z")
    os.link(target, aside)
    for suffix in _BESIDE[1:]:  # of a damaged file: they must not be taken for the new one's
        with suppress(FileNotFoundError):
            os.rename(f"{target}{suffix}", f"{aside}{suffix}")
    return aside


def _thin_out(folder: Path, newest: str, keep: int) -> int:
    """Delete the oldest. What has a later name than the newest was made by a clock that has been set back since: that goes first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    old = sorted(found, key=lambda path: (path.name <= newest, path.name))[:-keep]
    for path in old:
        path.unlink()
    return len(old)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, so that whatever is half-made in it is nobody's. Raises `Unavailable`."""
    with _told(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise errors.Unavailable(f"another backup is being made in {folder}; try again when it is done") from None
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the file system refuses, in one line."""
    try:
        yield
    except OSError as error:
        raise errors.Unavailable(f"can't write {path}: {error.strerror}") from error


def _remove(path: Path) -> None:
    for suffix in _BESIDE:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
