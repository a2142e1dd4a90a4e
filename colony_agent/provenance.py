"""What people outside of the colony have had a part in: a turn that has heard them marks what it notes, and sets itself no tasks.

Whoever is outside may write anything, and a model may believe it. That it does so in one turn can't be prevented; but what it notes then is
read in every turn to come. So each line bears a mark of where it comes from, set by the machine and not by the model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from colony import files
from colony_agent.overflow import DIARY, MEMORY
from colony_agent.settings import Home

if TYPE_CHECKING:
    from colony import schema

log = logging.getLogger(__name__)

MARK = "[outside]"
HEARTBEAT = "heartbeat.md"
OUTSIDE = frozenset({"gateway"})  # the kinds of users who pass on what people outside say
FOLDERS = ("memory", DIARY)
MAX_BYTES = 4 * 2**20  # of all notes together; lines of those beyond count as new
SHINGLE = 4  # words in a row that two lines share by more than chance
_SAID_OUTSIDE = tuple(f'"author_kind":"{kind}"' for kind in OUTSIDE)


@dataclass(frozen=True)
class Notes:
    """What an agent had noted: of each file its lines, and its heartbeat as a whole."""

    lines: Mapping[str, frozenset[bytes]]
    heartbeat: bytes

    @property
    def marked(self) -> list[str]:
        return [line.decode(errors="replace") for lines in self.lines.values() for line in lines if MARK.encode() in line]


def is_from_outside(message: schema.Message) -> bool:
    return message.author_kind in OUTSIDE


def holds_outside(document: str) -> bool:
    """Whether a response of the server, as compact JSON, holds a message from outside. In a text, its quotes would be escaped."""
    return any(said in document for said in _SAID_OUTSIDE)


def noted(home: Home) -> Notes:
    """What the agent has noted by now. Whatever odd thing lies in the place of a note holds no lines."""
    return Notes({name: frozenset(text.splitlines()) for name, text in _texts(home)}, _read(home, HEARTBEAT, MAX_BYTES))


def settle(home: Home, before: Notes) -> None:
    """Mark the lines that are new since then, and undo what was written into the heartbeat: it is instructions.

    Only while no sandbox of the agent runs.
    """
    try:
        if _read(home, HEARTBEAT, MAX_BYTES) != before.heartbeat:
            files.write(home.path, HEARTBEAT, before.heartbeat)
            log.warning("heartbeat put back: people from outside had been heard agent=%s", home.agent.name)
        for name, text in list(_texts(home)):
            marked = _marked(text, before.lines.get(name, frozenset()))
            if marked != text:
                files.write(home.path, name, marked)
                log.info("lines marked as from outside agent=%s file=%s", home.agent.name, name)
    except OSError as error:
        log.error("lines not marked as from outside agent=%s error=%s", home.agent.name, error)


def carried(new: str, old: str, marked: Sequence[str]) -> str:
    """The memory that a dream made of the old one, with marks on lines that take words from marked ones.

    What a line says in words of its own can't be found so: the dreamer is asked to keep the marks itself.
    """
    if not marked:
        return new
    kept = [line for line in old.splitlines() if MARK not in line]
    suspect = set().union(*map(_shingles, marked)) - set().union(*map(_shingles, kept))
    known = {line.strip() for line in kept}
    lines = new.splitlines(keepends=True)
    return "".join(line if line.strip() in known or suspect.isdisjoint(_shingles(line)) else _with_mark(line) for line in lines)


def _marked(text: bytes, known: frozenset[bytes]) -> bytes:
    lines = text.splitlines(keepends=True)
    return b"".join(line if line.rstrip(b"\r\n") in known else _with_mark(line.decode("latin-1")).encode("latin-1") for line in lines)


def _with_mark(line: str) -> str:
    bare = line.rstrip("\r\n")
    return line if MARK in bare or not bare.strip() else f"{bare} {MARK}{line[len(bare):]}"


def _shingles(line: str) -> set[tuple[str, ...]]:
    """Each few words in a row; of a shorter line, all of it."""
    words = re.findall(r"\w+", line.replace(MARK, " ").lower())
    count = min(SHINGLE, len(words))
    return {tuple(words[at : at + count]) for at in range(len(words) - count + 1)} if words else set()


def _texts(home: Home) -> Iterator[tuple[str, bytes]]:
    """The notes by name, the memory first, as far as all of them have room here."""
    found = [(folder, name) for folder in FOLDERS for name, _, _ in _listing(home, folder)]
    names = [f"{folder}/{name}" for folder, name in found if not name.startswith(".")]  # as what a crash has left half written
    left = MAX_BYTES
    for name in sorted(names, key=lambda name: (name != MEMORY, name)):
        text = _read(home, name, left + 1)
        left -= len(text)
        if left < 0:
            log.warning("more is noted than is looked at agent=%s bytes=%d", home.agent.name, MAX_BYTES)
            return
        yield name, text


def _listing(home: Home, folder: str) -> list[tuple[str, int, int]]:
    try:
        return files.listing(home.path, folder)
    except OSError:
        return []


def _read(home: Home, name: str, max_bytes: int) -> bytes:
    try:
        return files.read_bytes(home.path, name, max_bytes)
    except OSError:
        return b""
