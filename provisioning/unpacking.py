"""Reads archives of homes, and fills a home from one. What is in them is the agents': it gets nowhere but into the home."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import tomllib
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from colony import errors, show
from colony.config import PROJECT_FILE, STATE_FILE
from provisioning import archives, home, packing, record
from provisioning.record import Record

MADE_ANEW = (home.SOUL_FILE, home.RULES_FILE, STATE_FILE, PROJECT_FILE)
MAX_TEXT_BYTES = 64 * 1024  # of what is read of an archive before it is unpacked
_CHUNK_BYTES = 2**20
_RECORD = None  # it lies beside the home
_SOUL, _SETTINGS, _REPO = map(PurePosixPath, (home.SOUL_FILE, PROJECT_FILE, "repo"))
_TEXTS = (_RECORD, _SOUL, _SETTINGS)


@dataclass(frozen=True)
class Archived:
    """What an archive says of its agent. None: it says nothing."""

    path: Path
    record: Record | None
    soul: str | None
    agent: Mapping[str, Any] = field(default_factory=dict)  # the [agent] table of its .colony.toml
    has_repo: bool = False


def read(path: Path) -> Archived:
    """What the archive says, once all of it was read. Raises `NotFound`, or `Invalid` for what is no whole archive of one home."""
    try:
        with _readable(path) as file, opened(file) as tar:
            return _read(path, tar)
    except errors.Invalid as error:
        raise errors.Invalid(show.line(f"{path}: {error.detail}")) from error


def _read(path: Path, tar: tarfile.TarFile) -> Archived:
    texts: dict[PurePosixPath | None, str] = {}
    homes: set[str] = set()
    has_repo = False
    for member in _members(tar):
        place = _place(member.name)
        homes |= {PurePosixPath(member.name).parts[0]} if place else set()
        has_repo |= place == _REPO
        if place in _TEXTS and member.isreg() and member.size <= MAX_TEXT_BYTES and (contents := tar.extractfile(member)):
            texts[place] = contents.read().decode(errors="replace")
    if len(homes) != 1:
        raise errors.Invalid(f"it holds {len(homes)} homes, not one")
    known = record.parsed(_table(texts[_RECORD]), archives.RECORD) if _RECORD in texts else None
    agent = _table(texts.get(_SETTINGS, "")).get("agent", {})
    return Archived(path, known, texts.get(_SOUL), agent if isinstance(agent, dict) else {}, has_repo)


def _table(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.Invalid(f"its settings can't be read: {error}") from error


def count(archive: IO[bytes]) -> int:
    """How many entries the archive has, once all of it was read. Raises `Invalid`."""
    archive.seek(0)
    with opened(archive) as tar:
        return sum(1 for _ in _members(tar))


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One after another, of which the file object would otherwise remember all."""
    for member in tar:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]


def restore(target: Path, archive: IO[bytes], repo: str | None, source: str | None, descriptors: Sequence[int]) -> None:
    """Make a home what the archive holds, in the place of all that is in it; what else it needs, and a `repo`, are made anew.

    As the agent, which has never run there. Afterwards `home.prepare` adds what is missing.
    """
    subprocess.run(["find", str(target), "-mindepth", "1", "-delete"], check=True)
    if repo:
        home.clone(repo, source or repo, descriptors, target / "repo")
    unpack(archive, target, {*MADE_ANEW, *(("repo",) if repo else ())})
    home.clear_ways(target)


def unpack(archive: IO[bytes], target: Path, leave_out: Container[str]) -> None:
    """Fill a home, in which no link is yet, with what the archive holds, but for what it shall not have. To be done as the agent.

    Only folders, files and links come out of it, with the agent's own modes. Links are made last, so that nothing is written through one.
    """
    archive.seek(0)
    links: list[tuple[tarfile.TarInfo, PurePosixPath]] = []
    made: set[PurePosixPath] = set()
    with opened(archive) as tar:
        for member in _members(tar):
            place = _place(member.name)
            if place is None or _is_below(place, leave_out) or not packing.is_bounded(member.name):
                continue
            (target / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if member.isdir():
                (target / place).mkdir(mode=0o700, exist_ok=True)
            elif member.isreg():
                _write(target / place, member, cast("IO[bytes]", tar.fileobj))
                made.add(place)
            elif member.issym() or member.islnk():
                links.append((member, place))
    for member, place in links:
        _link(target, member, place, made)
    subprocess.run(["sync", "--file-system", str(target)], check=True)


@contextmanager
def opened(archive: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """The archive to be read; afterwards the rest of it is read, too. Raises `Invalid` where it is damaged."""
    try:
        with gzip.GzipFile(fileobj=archive, mode="rb") as stream:
            with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8") as tar:
                yield tar
            while stream.read(_CHUNK_BYTES):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise errors.Invalid(f"it is no whole archive of a home: {error}") from error


@contextmanager
def _readable(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            yield file
    except FileNotFoundError:
        raise errors.NotFound(show.line(f"there is no archive {path}")) from None
    except (IsADirectoryError, ValueError):
        raise errors.Invalid("it is no file") from None


def _place(name: str) -> PurePosixPath | None:
    """Where a member belongs in the home; None for the record beside it. Raises `Invalid` for what belongs nowhere."""
    if name == archives.RECORD:
        return None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise errors.Invalid(f"it holds {name!r}, which belongs in no home")
    return PurePosixPath(*path.parts[1:])


def _is_below(place: PurePosixPath, names: Container[str]) -> bool:
    return any(str(above) in names for above in (place, *place.parents))


def _write(path: Path, member: tarfile.TarInfo, stream: IO[bytes]) -> None:
    mode = 0o700 if member.mode & 0o100 else 0o600
    stored: Any = member.sparse  # where it goes on after each hole, and for how many bytes; None where it has none
    stream.seek(member.offset_data)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode), "wb") as file:
        for start, size in [(0, member.size)] if stored is None else stored:
            file.seek(start)
            _copy(stream, file, size)
        file.truncate(member.size)
        os.utime(file.fileno(), (member.mtime, member.mtime))


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size:
        chunk = source.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise errors.Invalid("the archive ends in the middle of a file")
        target.write(chunk)
        size -= len(chunk)


def _link(target: Path, member: tarfile.TarInfo, place: PurePosixPath, made: Container[PurePosixPath]) -> None:
    path = target / place
    if os.path.lexists(path):
        return
    if member.issym():
        path.symlink_to(member.linkname)
    elif (same := _place(member.linkname)) and same in made:
        os.link(target / same, path, follow_symlinks=False)
