"""Backups of the homes of living agents, each made as the agent and read again before it counts."""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from colony import errors, files, show
from colony.config import PROJECT_FILE
from provisioning import agents, archives, facts, packing, places, record, stepdown, unpacking
from provisioning.packing import Packed

PATIENCE_SECONDS = 30.0  # with a turn that runs; after that the home is copied beside it
_TICK_SECONDS = 0.2


@dataclass(frozen=True)
class Backup:
    path: Path
    packed: Packed
    bytes: int  # of the archive
    seconds: float
    deleted: int  # older ones

    @property
    def says(self) -> str:
        beside = "" if self.packed.is_quiet else ", beside a turn"
        deleted = f"; {self.deleted} older deleted" if self.deleted else ""
        size = f"{self.packed.bytes / 1e6:.1f} MB as {self.bytes / 1e6:.1f}"
        return f"{self.path}: {self.packed.entries} entries, {size} in {self.seconds:.2f} s{beside}, checked{deleted}"

    @property
    def lacks(self) -> str:
        """What of the home is not in it; empty where nothing was in the way."""
        counts = self.packed.left_out.items()
        return "; ".join(show.line(f"{count} {reason} (the first: {self.packed.examples[reason]})") for reason, count in counts)


def make(name: str, keep: int, max_bytes: int) -> Backup:
    """Archive the agent's home and the host's record of it; `keep` is how many of its backups are left.

    No half archive ever has a final name. Raises `ColonyError`; what was there before stays.
    """
    began = time.monotonic()
    with agents.alone(name):
        known = record.read(name)
        if known is None or not _lives(name):
            raise errors.NotFound(f"no agent {name} has a home on this machine")
        places.BACKUPS.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = places.BACKUPS / archives.name_of(name)
        with _staged(path, archives.staged(name)) as archive:
            packed = Packed(**stepdown.as_user(name, partial(_pack, places.HOMES / name, known.text, archive, max_bytes)))
        others = [other for other in archives.living(name) if other != path]
        old = others[: max(0, len(others) + 1 - keep)]
        for other in old:
            other.unlink()
    return Backup(path, packed, path.stat().st_size, time.monotonic() - began, len(old))


def _lives(name: str) -> bool:
    account = next((each for each in pwd.getpwall() if each.pw_name == name), None)
    return account is not None and facts.is_ours(account) and (places.HOMES / name).is_dir()


def _pack(home: Path, known: str, archive: IO[bytes], max_bytes: int) -> dict[str, Any]:
    with _between_turns(home) as is_quiet:
        packed = packing.pack(str(home), known, archive, max_bytes)
        packed.is_quiet = is_quiet
    archive.flush()
    if unpacking.count(archive) != packed.entries:
        raise errors.StorageDamaged("what was written can't be read again")
    return asdict(packed)


@contextmanager
def _staged(path: Path, staged: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is whole and on the disk."""
    try:
        with open(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w+b") as file:
            yield file
            os.fsync(file.fileno())
        staged.rename(path)
        files.sync_folder(path.parent)
    except OSError as error:
        raise errors.Unavailable(f"{path} was not made: {error.strerror}") from error
    except errors.ColonyError as error:
        raise type(error)(f"{path} was not made: {error.detail}") from error
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def _between_turns(home: Path) -> Iterator[bool]:
    """Hold the lock that keeps an agent's turns and dreams apart; go on where a turn takes too long. Whether it is held."""
    descriptor = os.open(home / PROJECT_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (is_held := _is_held(descriptor)) and time.monotonic() < deadline:
            time.sleep(_TICK_SECONDS)
        yield is_held
    finally:
        os.close(descriptor)


def _is_held(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
