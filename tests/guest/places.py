"""Folders whose owner is one process: what a killed one leaves, mounts and processes included, goes away at the next claim."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.guest import cgroups

PLACES = Path(tempfile.gettempdir()) / "colony-guests"
NSPAWNS = Path("/run/systemd/nspawn/propagate")  # where a killed systemd-nspawn leaves a folder
_numbers = itertools.count(1)


class Place:
    """A new folder, this process' own until `give_back`. Its name is free for a host name and for cgroups, too."""

    def __init__(self) -> None:
        _make_places()
        with locked(PLACES):
            _sweep()
            self.name = f"colony-guest-{os.getpid()}-{next(_numbers)}"
            self.folder = PLACES / self.name
            self.folder.mkdir(mode=0o700)
            # The kernel gives the lock back when the owner dies, however it dies.
            self._owner = _lock(self.folder, os.O_DIRECTORY)

    def give_back(self) -> None:
        """Remove it with all that was mounted in it and all that runs in its cgroups."""
        if self._owner >= 0:
            _remove(self.folder)
            os.close(self._owner)
            self._owner = -1


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone in all processes that lock the same path: a folder, or a file that need not be there."""
    descriptor = _lock(path, 0 if path.is_dir() else os.O_CREAT)
    try:
        yield
    finally:
        os.close(descriptor)


def mount(kind: str, source: str, target: Path, *options: str) -> None:
    """Mount at the folder `target`, which need not be there."""
    target.mkdir(exist_ok=True)
    ran = subprocess.run(["mount", "-t", kind, "-o", ",".join(options), source, target], check=False, capture_output=True, text=True)
    if ran.returncode:
        raise OSError(f"cannot mount {kind} at {target}: {ran.stderr.strip()}")


def unmount(target: Path) -> None:
    """Unmount it, at once for everybody who looks; what a dying process still holds goes with that process."""
    if target.is_mount() and subprocess.run(["umount", target], check=False, capture_output=True).returncode:
        subprocess.run(["umount", "--lazy", target], check=True)


def _make_places() -> None:
    PLACES.mkdir(mode=0o700, exist_ok=True)
    if PLACES.is_symlink() or PLACES.stat().st_uid != os.geteuid():
        raise PermissionError(f"{PLACES} belongs to somebody else; remove it, or set TMPDIR")


def _sweep() -> None:
    for folder in PLACES.iterdir():
        try:
            os.close(_lock(folder, os.O_DIRECTORY, fcntl.LOCK_NB))
        except (BlockingIOError, FileNotFoundError):  # its owner lives, or is giving it back
            continue
        _remove(folder)


def _remove(folder: Path) -> None:
    cgroups.kill(folder.name)
    for mounted in reversed(_mounts_below(folder)):
        unmount(mounted)
    cgroups.remove(folder.name)
    for left in (folder, NSPAWNS / folder.name):
        with suppress(FileNotFoundError):
            shutil.rmtree(left)


def _mounts_below(folder: Path) -> list[Path]:
    """In the order in which they were mounted."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if folder in point.parents]


def _lock(path: Path, flags: int, or_fail: int = 0) -> int:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | or_fail)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
