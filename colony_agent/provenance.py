"""What people outside of the colony have had a part in: a turn that has heard them marks what it notes, and sets itself no tasks.

Whoever is outside may write anything, and a model may believe it. That it does so in one turn can't be prevented; but what it notes then is
read in every turn to come. So each line bears a mark of where it comes from, set by the machine and not by the model.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from colony import files
from colony_agent import marks
from colony_agent.overflow import MEMORY
from colony_agent.settings import Home

if TYPE_CHECKING:
    from colony import schema

log = logging.getLogger(__name__)

HEARTBEAT, FOLDER = "heartbeat.md", "memory"
OUTSIDE = frozenset({"gateway"})  # the kinds of users who pass on what people outside say
MAX_BYTES = 4 * 2**20  # of one note, and of all whose lines are known from before
MAX_LINES = 50_000
MAX_CHANGED_BYTES = 64 * 2**20  # in one turn
MAX_NOTES = 10_000
SHINGLE = 4  # words in a row that two lines share by more than chance
_SAID_OUTSIDE = tuple(f'"author_kind":"{kind}"' for kind in OUTSIDE)


_Stamp = tuple[int, ...]  # what becomes different when a note is changed, whatever its writer does


@dataclass(frozen=True)
class Notes:
    """What an agent had noted: of each file its stamp, and its lines as far as there was room for them; and its heartbeat as a whole."""

    stamps: Mapping[str, _Stamp]
    lines: Mapping[str, frozenset[str]]  # as `_digest` names them
    heartbeat: bytes
    marked: tuple[str, ...] = ()  # the lines of all files that bore the mark

    def packed(self) -> dict[str, Any]:
        """What can be kept in a journal, as JSON, and is enough to settle by."""
        lines = {name: sorted(digests) for name, digests in self.lines.items()}
        return {"stamps": dict(self.stamps), "lines": lines, "heartbeat": self.heartbeat.decode("latin-1")}

    @classmethod
    def unpacked(cls, kept: Mapping[str, Any]) -> Notes:
        stamps = {str(name): tuple(map(int, stamp)) for name, stamp in kept["stamps"].items()}
        lines = {str(name): frozenset(map(str, digests)) for name, digests in kept["lines"].items()}
        return cls(stamps, lines, str(kept["heartbeat"]).encode("latin-1"))


def is_from_outside(message: schema.Message) -> bool:
    return message.author_kind in OUTSIDE


def holds_outside(document: str) -> bool:
    """Whether a response of the server, as compact JSON, holds a message from outside. In a text, its quotes would be escaped."""
    return any(said in document for said in _SAID_OUTSIDE)


def noted(home: Home) -> Notes:
    """What the agent has noted by now. Whatever odd thing lies in the place of a note holds no lines."""
    found = _below(home)
    known: dict[str, frozenset[str]] = {}
    marked: list[str] = []
    left, lines_left = MAX_BYTES, MAX_LINES
    for name in sorted(found, key=lambda name: (name != MEMORY, name)):
        if not stat.S_ISREG(found[name].st_mode) or found[name].st_size > left:
            continue
        text = _read(home, name)
        lines = text.splitlines()
        if len(lines) <= lines_left:
            left, lines_left = left - len(text), lines_left - len(lines)
            known[name] = frozenset(map(_digest, lines))
            marked += [line.decode(errors="replace") for line in lines if marks.OUTSIDE.encode() in line]
    return Notes({name: _stamp(facts) for name, facts in found.items()}, known, _read(home, HEARTBEAT), tuple(marked))


def settle(home: Home, before: Notes) -> bool:
    """Mark the lines that are new since then, and undo what was written into the heartbeat: it is instructions.

    What can't be marked is put aside, so that it is not taken for a note. Only while no sandbox of the agent runs.
    Whether all was done; if not, as on a full disk, it may be tried again.
    """
    is_settled = True
    for act in (_open_up, _settle_heartbeat, _settle_notes):
        try:
            act(home, before)
        except OSError as error:
            is_settled = False
            log.error("notes not settled agent=%s error=%s", home.agent.name, error)
    return is_settled


def carried(new: str, old: str, marked: Sequence[str]) -> str:
    """The memory that a dream made of the old one, with marks on lines that take words from marked ones.

    What a line says in words of its own can't be found so: the dreamer is asked to keep the marks itself.
    """
    if not marked:
        return new
    kept = [line for line in old.splitlines() if marks.OUTSIDE not in line]
    suspect = set().union(*map(_shingles, marked)) - set().union(*map(_shingles, kept))
    known = {line.strip() for line in kept}
    lines = new.splitlines(keepends=True)
    return "".join(line if line.strip() in known or suspect.isdisjoint(_shingles(line)) else _with_mark(line) for line in lines)


def _digest(line: bytes) -> str:
    return hashlib.blake2b(line, digest_size=8).hexdigest()


def _marked(text: bytes, known: frozenset[str]) -> bytes:
    def settled(line: bytes) -> bytes:
        is_known = _digest(line.rstrip(b"\r\n")) in known
        return line if is_known else _with_mark(line.decode("latin-1")).encode("latin-1")

    return b"".join(map(settled, text.splitlines(keepends=True)))


def _with_mark(line: str) -> str:
    bare = line.rstrip("\r\n")
    return line if marks.OUTSIDE in bare or not bare.strip() else f"{bare} {marks.OUTSIDE}{line[len(bare) :]}"


def _shingles(line: str) -> set[tuple[str, ...]]:
    """Each few words in a row; of a shorter line, all of it."""
    words = re.findall(r"\w+", line.replace(marks.OUTSIDE, " ").lower())
    count = min(SHINGLE, len(words))
    return {tuple(words[at : at + count]) for at in range(len(words) - count + 1)} if words else set()


def _open_up(home: Home, _: Notes) -> None:
    """The machine writes here as the agent, who can have closed a folder to itself, or put a link in its place."""
    home.path.chmod(0o700)
    for name in (HEARTBEAT, MEMORY):
        files.clear_way(home.path, name)


def _settle_heartbeat(home: Home, before: Notes) -> None:
    if files.read_bytes(home.path, HEARTBEAT, MAX_BYTES) != before.heartbeat:
        try:
            files.rewrite(home.path, HEARTBEAT, before.heartbeat)
        except OSError:
            files.overwrite(home.path, HEARTBEAT, "")  # rather no instructions than those; a full disk can keep it from being put aside
            raise
        log.warning("heartbeat put back: people from outside had been heard agent=%s", home.agent.name)


def _settle_notes(home: Home, before: Notes) -> None:
    found = _below(home)
    changed = {name: facts for name, facts in found.items() if before.stamps.get(name) != _stamp(facts)}
    if len(found) > MAX_NOTES or sum(facts.st_size for facts in changed.values()) > MAX_CHANGED_BYTES:
        _put_aside(home, FOLDER, "there is more than can be looked at")
        return
    stuck = [name for name, facts in changed.items() if not _is_settled(home, name, facts, before.lines.get(name, frozenset()))]
    if stuck:
        raise OSError(f"{len(stuck)} notes are neither marked nor put aside, such as {stuck[0]!r}")


def _is_settled(home: Home, name: str, facts: os.stat_result, known: frozenset[str]) -> bool:
    try:
        _settle_note(home, name, facts, known)
    except OSError as error:
        _put_aside(home, name, str(error))
        return not files.exists(home.path, name)
    return True


def _settle_note(home: Home, name: str, facts: os.stat_result, known: frozenset[str]) -> None:
    """Raises `OSError` for what is no file, too large, or can't be read or written."""
    if facts.st_size > MAX_BYTES:
        raise OSError(f"it has {facts.st_size} bytes")
    text = files.read_bytes(home.path, name, MAX_BYTES)
    marked = _marked(text, known)
    if marked != text:
        files.rewrite(home.path, name, marked)
        log.info("lines marked as from outside agent=%s file=%s", home.agent.name, name)


def _put_aside(home: Home, name: str, reason: str) -> None:
    aside = f"{name}.odd-{secrets.token_hex(4)}"
    files.put_aside(home.path, name, aside)
    log.warning("put aside, as lines from outside could not be marked agent=%s file=%s to=%s: %s", home.agent.name, name, aside, reason)


def _stamp(facts: os.stat_result) -> _Stamp:
    return facts.st_ino, facts.st_size, facts.st_ctime_ns


def _below(home: Home) -> dict[str, os.stat_result]:
    try:
        return dict(islice(files.walk(home.path, FOLDER), MAX_NOTES + 1))
    except OSError:
        return {}


def _read(home: Home, name: str) -> bytes:
    try:
        return files.read_bytes(home.path, name, MAX_BYTES)
    except OSError:
        return b""
