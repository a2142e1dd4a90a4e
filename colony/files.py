"""Reads and writes below a folder that somebody else may have filled: no link, pipe or device there leads the reader astray."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def read(folder: Path, name: str, max_bytes: int) -> str:
    """The text of a regular file, at most its first `max_bytes`; empty where there is none. Raises `OSError` for anything odd."""
    return read_bytes(folder, name, max_bytes).decode(errors="replace")


def read_bytes(folder: Path, name: str, max_bytes: int) -> bytes:
    """The same, without a guess at its encoding."""
    try:
        with _parent(folder, name) as parent:
            descriptor = os.open(PurePosixPath(name).name, os.O_RDONLY | _OPEN, dir_fd=parent)
    except FileNotFoundError:
        return b""
    with _regular(descriptor, folder / name), open(descriptor, "rb", closefd=False) as file:
        return file.read(max_bytes)


def write(folder: Path, name: str, text: str | bytes) -> None:
    """Replace the file, atomically and durably; its folders are made where they are missing."""
    with _parent(folder, name, make=True) as parent:
        final = PurePosixPath(name).name
        staged = f".{final}.{secrets.token_hex(4)}"
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(text.encode() if isinstance(text, str) else text)
                file.flush()
                os.fsync(descriptor)
            os.rename(staged, final, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(staged, dir_fd=parent)
            raise
        os.fsync(parent)


def rewrite(folder: Path, name: str, text: str | bytes) -> None:
    """Replace the file as `write` does or, where there is no room for a second one beside it, in place.

    Most changes fit into the blocks that a file already has. Raises `OSError` where not even that is so; the file is then as it was.
    """
    try:
        write(folder, name, text)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        overwrite(folder, name, text)


def overwrite(folder: Path, name: str, text: str | bytes) -> None:
    """Change the text of a regular file, durably, and for all who have mounted it; a power cut may leave some of both texts.

    Raises `FileNotFoundError`, and other `OSError`; where there is no room for it the file is as it was.
    """
    content = text.encode() if isinstance(text, str) else text
    with _parent(folder, name) as parent:
        descriptor = os.open(PurePosixPath(name).name, os.O_WRONLY | _OPEN, dir_fd=parent)
    with _regular(descriptor, folder / name), open(descriptor, "wb", closefd=False) as file:
        before = os.fstat(descriptor).st_size
        if content:
            try:
                os.posix_fallocate(descriptor, 0, len(content))
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        file.write(content)
        file.flush()
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)


def append(folder: Path, name: str, text: bytes) -> None:
    """Add to the end of a regular file, durably; it is made where it is missing. Raises `OSError`; the file is then as it was."""
    with _parent(folder, name, make=True) as parent:
        descriptor = os.open(PurePosixPath(name).name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _OPEN, 0o600, dir_fd=parent)
        with _regular(descriptor, folder / name):
            before = os.fstat(descriptor).st_size
            try:
                with open(descriptor, "wb", closefd=False) as file:
                    file.write(text)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        os.fsync(parent)


def link(folder: Path, name: str, other: str) -> None:
    """Let the file be found under another name, too, durably. Raises `OSError` when there is something of that name."""
    with _parent(folder, name) as source, _parent(folder, other, make=True) as target:
        names = PurePosixPath(name).name, PurePosixPath(other).name
        os.link(*names, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        os.fsync(target)


def put_aside(folder: Path, name: str, aside: str) -> None:
    """Rename whatever is there, of any kind; an `aside` from before is lost, unless it is a folder: then nothing changes."""
    with _parent(folder, name) as parent, suppress(OSError):
        os.rename(PurePosixPath(name).name, PurePosixPath(aside).name, src_dir_fd=parent, dst_dir_fd=parent)


def delete(folder: Path, name: str) -> None:
    """Delete what is no folder. Raises `OSError`, also where there is nothing."""
    with _parent(folder, name) as parent:
        os.unlink(PurePosixPath(name).name, dir_fd=parent)


def clear_way(folder: Path, name: str) -> None:
    """Put aside what keeps `name` from being a file: something else in its place, or in that of a folder above it."""
    path = PurePosixPath(name)
    for step in (*reversed(path.parents[:-1]), path):
        with suppress(FileNotFoundError), _parent(folder, str(step)) as parent:
            facts = os.stat(step.name, dir_fd=parent, follow_symlinks=False)
            if step == path:
                is_odd = not stat.S_ISREG(facts.st_mode)
            else:
                is_odd = not stat.S_ISDIR(facts.st_mode) or facts.st_mode & stat.S_IRWXU != stat.S_IRWXU
            if is_odd:
                put_aside(folder, str(step), f"{step}.odd-{secrets.token_hex(4)}")


def exists(folder: Path, name: str) -> bool:
    """Whether there is anything of that name, be it a dead link. Raises `OSError` when a link is on the way."""
    try:
        with _parent(folder, name) as parent:
            return _exists(PurePosixPath(name).name, parent)
    except FileNotFoundError:
        return False


def make_folder(folder: Path, name: str) -> None:
    """Make the folder and those above it where they are missing. Raises `OSError` when something else is in its place."""
    with _parent(folder, f"{name}/x", make=True):
        pass


def private_folder(key: str) -> Path:
    """A folder of this user's own in the temporary one, the same for the same key unless somebody else has taken that name."""
    name = f"colony-{os.getuid()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    path = Path(tempfile.gettempdir()) / name
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix=f"{name}-"))
    return path


def private_folders() -> Iterator[Path]:
    """All of this user's own in the temporary folder, whatever their keys were."""
    for path in Path(tempfile.gettempdir()).glob(f"colony-{os.getuid()}-*"):
        with suppress(FileNotFoundError):
            facts = path.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid():
                yield path


def listing(folder: Path, name: str) -> list[tuple[str, int, int]]:
    """The regular files of a folder: name, bytes, and when each was changed, in nanoseconds; none where there is no such folder."""
    try:
        with _parent(folder, f"{name}/x") as parent:
            found = ((entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(parent))
            return sorted((each, facts.st_size, facts.st_mtime_ns) for each, facts in found if stat.S_ISREG(facts.st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return []


def walk(folder: Path, name: str, depth: int = 8) -> Iterator[tuple[str, os.stat_result]]:
    """What lies below, so deep, in the order of names, with its facts; none where there is no such folder.

    Of folders only those that can't be looked into, and those at the bottom. No link is followed.
    """
    try:
        with _parent(folder, f"{name}/x") as parent:
            found = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(parent))
    except FileNotFoundError:
        return
    for each, facts in found:
        below = f"{name}/{each}"
        if not stat.S_ISDIR(facts.st_mode) or depth == 1:
            yield below, facts
            continue
        try:
            yield from walk(folder, below, depth - 1)
        except OSError:
            yield below, facts


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as what they name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prune(folder: Path, name: str, keep: int) -> None:
    """Delete the regular files of a folder but for the last `keep` by name."""
    with _parent(folder, f"{name}/x") as parent:
        files = sorted(entry.name for entry in os.scandir(parent) if entry.is_file(follow_symlinks=False))
        for old in files[: max(0, len(files) - keep)]:
            os.unlink(old, dir_fd=parent)


@contextmanager
def _regular(descriptor: int, path: Path) -> Iterator[None]:
    """Close the descriptor after the block, which is not entered for anything but a regular file."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _parent(folder: Path, name: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder that holds `name`, reached without following a link."""
    current = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in PurePosixPath(name).parent.parts:
            if make and not _exists(part, current):
                os.mkdir(part, 0o700, dir_fd=current)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
