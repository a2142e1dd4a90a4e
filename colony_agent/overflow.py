"""Keeps an agent's memory within its bound, whatever its dreams do: what has no room in it moves to the diary."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from colony import files
from colony_agent.marks import is_pinned
from colony_agent.settings import Home

log = logging.getLogger(__name__)

MEMORY = "memory/memory.md"
DIARY = "memory/diary"
OVERGROWN = 64  # times its bound: what is larger is not read whole
# What a link, a folder, a file in a folder's place, and a pipe or socket are answered with; None is a device's.
_ODD = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, None)


def settle(home: Home, now: datetime, above_bytes: int | None = None) -> None:
    """Move the oldest lines of a memory that is larger than its bound (or only if it has more than `above_bytes`) to the diary.

    Only while no sandbox of the agent runs. A crash in between may leave a line in both, but none is lost. What the agent or a full disk
    has put in the way is logged, and costs no more than that the memory stays as it is.
    """
    limit = home.agent.memory_max_bytes
    try:
        memory = files.read_bytes(home.path, MEMORY, OVERGROWN * limit + 1)
        if len(memory) > (limit if above_bytes is None else above_bytes):
            name = _shrink(home, memory, now)
            log.warning("memory outgrew its bound agent=%s bytes=%d bound=%d moved_to=%s", home.agent.name, len(memory), limit, name)
    except OSError as error:
        log.error("memory not kept within its bound agent=%s error=%s", home.agent.name, error)


def read(home: Home, now: datetime) -> bytes:
    """The whole memory; what is too large to be read moves to the diary first. Raises `OSError` where something odd is in its place."""
    most = OVERGROWN * home.agent.memory_max_bytes
    settle(home, now, above_bytes=most)
    memory = files.read_bytes(home.path, MEMORY, most + 1)
    if len(memory) > most:
        raise OSError(errno.EFBIG, "the memory is too large to be read, and could not be moved to the diary")
    return memory


def split(memory: bytes, max_bytes: int) -> tuple[bytes, bytes]:
    """The lines that move out, oldest first and pinned ones only when there are no others, and those that stay."""
    lines = _lines(memory)
    excess = sum(map(len, lines)) - max_bytes
    moving = set()
    for is_pins_turn in (False, True):
        for index, line in enumerate(lines):
            if excess > 0 and is_pinned(line) is is_pins_turn:
                moving.add(index)
                excess -= len(line)
    moved = b"".join(line for index, line in enumerate(lines) if index in moving)
    return moved, b"".join(line for index, line in enumerate(lines) if index not in moving)


def _shrink(home: Home, memory: bytes, now: datetime) -> str:
    """The diary's file that holds now what the memory has lost."""
    limit = home.agent.memory_max_bytes
    moved, kept = split(memory, limit)
    if len(memory) > OVERGROWN * limit:  # and there is more of it: the file itself becomes the diary's
        name = f"{DIARY}/overflow-{now:%Y-%m-%dT%H%M%SZ}.md"
        kept = b"".join(line for line in _lines(kept) if is_pinned(line))
        _in_diary(home, name, now, lambda: files.link(home.path, MEMORY, name))
    else:
        name = f"{DIARY}/overflow-{now:%Y-%m-%d}.md"
        # The empty line first: what was there may end within a line.
        entry = f"\n## Moved out of memory.md at {now:%H:%M} UTC\n\n".encode() + moved
        _in_diary(home, name, now, lambda: files.append(home.path, name, entry))
    files.write(home.path, MEMORY, kept)
    return name


def _in_diary(home: Home, name: str, now: datetime, keep: Callable[[], None]) -> None:
    """Keep it under that name; whatever odd thing has the place of the file or of the diary is put aside."""
    for place in (name, DIARY):
        try:
            return keep()
        except OSError as error:
            if error.errno not in _ODD:
                raise
        with suppress(OSError):
            files.put_aside(home.path, place, f"{place}.odd-{now:%Y-%m-%dT%H%M%SZ}")
    return keep()


def _lines(memory: bytes) -> list[bytes]:
    return [line + b"\n" for line in memory.removesuffix(b"\n").split(b"\n")]
