"""Packs an agent's home into an archive: as the agent, in bounded time and room, whatever the agent has put there."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import PurePosixPath
from typing import IO

from colony import errors
from colony.config import PROJECT_FILE, STATE_FILE
from provisioning import archives, home

LEFT_OUT = ("repo", ".cache", STATE_FILE)  # is cloned again, is made again, is of no use in another life
FIRST = (home.SOUL_FILE, PROJECT_FILE, "heartbeat.md", "memory", ".git", ".claude")  # before the room is used up
MAX_ENTRIES = 100_000
MAX_DEPTH = 40
MAX_PATH_BYTES = 2000
MAX_SECONDS = 600.0
_ENTRY_BYTES = 1024  # what one takes besides its contents
_ODD = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}  # closed to the agent, or something else by now
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Packed:
    """What is in an archive, and what is not."""

    entries: int = 0
    bytes: int = 0  # before they were compressed
    is_quiet: bool = True  # no turn ran meanwhile
    left_out: dict[str, int] = field(default_factory=dict)  # how many, by the reason
    examples: dict[str, str] = field(default_factory=dict)  # the first of each

    def leave_out(self, path: str, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1
        self.examples.setdefault(reason, path)


def is_bounded(path: str) -> bool:
    """Whether it is no longer and no deeper than what goes into an archive, and comes out of it."""
    return len(os.fsencode(path)) <= MAX_PATH_BYTES and path.count("/") < MAX_DEPTH


def pack(folder: str, record: str, archive: IO[bytes], max_bytes: int) -> Packed:
    """Write the home at `folder` and the host's record of it into the file. What finds no room in `max_bytes` is left out, and counted.

    Raises `Unavailable` when it takes too long, `OSError` when the file can't be written.
    """
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=6, encoding="utf-8") as tar:
        packer = _Packer(tar, max_bytes)
        packer.add_text(archives.RECORD, record)
        with _folder(folder) as descriptor:
            packer.add_folder(PurePosixPath(folder).name, descriptor)
    return packer.packed


class _Packer:
    def __init__(self, tar: tarfile.TarFile, max_bytes: int) -> None:
        self.packed = Packed()
        self._tar, self._max_bytes = tar, max_bytes
        self._looked_at, self._deadline = 0, time.monotonic() + MAX_SECONDS

    def add_text(self, name: str, text: str) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(text.encode()), 0o600, int(time.time())
        self._add(info, BytesIO(text.encode()))

    def add_folder(self, path: str, descriptor: int) -> None:
        """The folder with all that is in it; of the home itself what matters most comes first."""
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o700, int(os.fstat(descriptor).st_mtime)
        self._add(info)
        is_home = "/" not in path
        for name in self._names(descriptor, path):
            if is_home and name in LEFT_OUT:
                continue
            self._add_entry(f"{path}/{name}", name, descriptor)

    def _names(self, descriptor: int, path: str) -> list[str]:
        names = []
        with os.scandir(descriptor) as found:
            for entry in found:
                names.append(entry.name)
                if len(names) > MAX_ENTRIES:  # one more than will be looked at
                    break
        return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))

    def _add_entry(self, path: str, name: str, folder: int) -> None:
        if time.monotonic() > self._deadline:
            raise errors.Unavailable(f"it was not packed within {MAX_SECONDS:.0f} s")
        self._looked_at += 1
        if self._looked_at > MAX_ENTRIES:
            self.packed.leave_out(path, f"beyond {MAX_ENTRIES} entries")
        elif not is_bounded(path):
            self.packed.leave_out(path, "nested too deeply")
        else:
            try:
                self._add_odd(path, name, folder)
            except OSError as error:
                if error.errno not in _ODD:
                    raise
                self.packed.leave_out(path, "not to be read")

    def _add_odd(self, path: str, name: str, folder: int) -> None:
        kind = stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if kind == stat.S_IFLNK:
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
            self._add(info)
        elif kind == stat.S_IFDIR:
            with _folder(name, folder) as descriptor:
                self.add_folder(path, descriptor)
        elif kind == stat.S_IFREG:
            self._add_file(path, name, folder)
        else:
            self.packed.leave_out(path, "neither file nor folder")

    def _add_file(self, path: str, name: str, folder: int) -> None:
        with open(os.open(name, _OPEN, dir_fd=folder), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):  # it was one a moment ago
                self.packed.leave_out(path, "neither file nor folder")
            elif self.packed.bytes + facts.st_size + _ENTRY_BYTES > self._max_bytes:
                self.packed.leave_out(path, f"beyond {self._max_bytes / 1e6:.0f} MB")
            else:
                info = tarfile.TarInfo(path)
                info.size, info.mtime = facts.st_size, int(facts.st_mtime)
                info.mode = 0o700 if facts.st_mode & stat.S_IXUSR else 0o600
                self._add(info, _Whole(file))

    def _add(self, info: tarfile.TarInfo, contents: IO[bytes] | _Whole | None = None) -> None:
        self._tar.addfile(info, contents)  # type: ignore[arg-type]
        self._tar.members.clear()  # type: ignore[attr-defined]  # else it remembers all
        self.packed.entries += 1
        self.packed.bytes += info.size + _ENTRY_BYTES


class _Whole:
    """A file as large as it was said to be, whatever becomes of it meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size).ljust(size, b"\0")


@contextmanager
def _folder(name: str, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
