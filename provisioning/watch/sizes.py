"""How much agents' homes hold, as it was last measured, and when that is due again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from colony import files

SERVICE = "colony-home-sizes.service"  # which measures: with many files that takes long
MEMORY = Path("/run/colony-home-sizes")  # root's, and gone after a boot
FILE = "sizes.json"
EVERY_SECONDS = 600.0
LEISURE = 20  # times as long as it took is waited at least: a host shall do more than count its files
SOON_BYTES, SOON_FILES = 2**30, 2**16  # so much less is free than it was: it is measured at once
BYTES_PER_FILE = 2**14  # on the average, as mke2fs expects: a home that holds more files for its bound is full as well
_MAX_BYTES = 2**24


@dataclass(frozen=True)
class Size:
    """What a home takes of its disk, and what it may."""

    bytes: int
    files: int  # folders and links, too
    max_bytes: int

    @property
    def max_files(self) -> int:
        return self.max_bytes // BYTES_PER_FILE

    @property
    def fullness(self) -> float:
        """1 where it holds just as much as it may."""
        return max(self.bytes / self.max_bytes, self.files / self.max_files)

    @property
    def shown(self) -> str:
        """In a few words, of what it holds more."""
        if self.bytes / self.max_bytes >= self.files / self.max_files:
            return f"{_shown(self.bytes)} and may hold {_shown(self.max_bytes)}"
        return f"{self.files} files and may hold {self.max_files}, one for each 16 KB of {_shown(self.max_bytes)}"


@dataclass(frozen=True)
class Measured:
    """All sizes, by the agents' names."""

    sizes: Mapping[str, Size]
    at: float  # seconds since the boot
    took_seconds: float
    free_bytes: int  # of their disk, before
    free_files: int


def is_due(last: Measured | None, now: float, room: os.statvfs_result) -> bool:
    """Whether to measure: the last time is long ago, or much of the disk was taken since."""
    if last is None:
        return True
    is_hurried = last.free_bytes - free_bytes(room) >= SOON_BYTES or last.free_files - room.f_favail >= SOON_FILES
    return now - last.at >= (last.took_seconds if is_hurried else max(EVERY_SECONDS, LEISURE * last.took_seconds))


def last(folder: Path = MEMORY) -> Measured | None:
    """The last time; None if there was none since the boot. Raises `PermissionError` for who is not root."""
    try:
        found = json.loads(files.read(folder, FILE, _MAX_BYTES))
        return Measured(**found | {"sizes": {name: Size(**each) for name, each in found["sizes"].items()}})
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError):  # then it is measured anew
        return None


def keep(measured: Measured, folder: Path = MEMORY) -> None:
    files.write(folder, FILE, json.dumps(asdict(measured)))


def free_bytes(room: os.statvfs_result) -> int:
    return room.f_bavail * room.f_frsize


def _shown(size: int) -> str:
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"
