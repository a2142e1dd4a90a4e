"""A dream: the agent compacts its memory. The new one is checked, swapped in whole and committed; the old one is kept."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta

from colony import failures, files, schema
from colony_agent import overflow, prompt, provenance, repository
from colony_agent.marks import is_pinned
from colony_agent.overflow import DIARY, MEMORY
from colony_agent.runner import Answer, Brief, Runner, RunnerFailed, Task
from colony_agent.settings import Home

log = logging.getLogger(__name__)

DREAMS = "memory/dreams"
NOTHING_TO_SAY = "HEARTBEAT_OK"  # it leaves the memory as it is
DREAM_SECONDS = 600


class Refused(ValueError):
    """The new memory would lose something."""


def dream(home: Home, turn: schema.Turn, runner: Runner) -> Answer:
    """Let the runner rewrite the memory: its reply is the new one. Raises `RunnerFailed`; the memory is then as it was."""
    limit = home.agent.memory_max_bytes
    now = datetime.now(UTC)
    before = overflow.read(home, now)  # what outgrew its bound is shown whole, so that nothing is lost unread
    old = before.decode(errors="replace")
    notes = provenance.noted(home)
    brief = Brief(prompt.render_dream(turn.agent, old, limit, now), turn)
    task = Task(lambda: brief, None, min(DREAM_SECONDS, home.agent.turn_timeout_seconds), turn.reserved_usd)
    try:
        answer = runner.run(task, lambda text: log.info("dream turn=%d %s", turn.id, text))
    finally:
        _put_back(home, before)
        if notes.marked:
            provenance.settle(home, notes)
    try:
        new = provenance.carried(accept(answer.reply, old, limit), old, notes.marked)
    except Refused as error:
        raise RunnerFailed(failures.CRASHED, f"the dream's memory was refused: {error}", usage=answer.usage) from error
    if new != old:
        keep(home, before, now)
        files.write(home.path, MEMORY, new)
        files.prune(home.path, DREAMS, home.agent.dreams_kept)
    repository.commit(home, f"Dream of {now:%Y-%m-%d %H:%M} UTC")
    return Answer("", answer.usage, None)


def matter(home: Home) -> str:
    """A name for what there is to dream of: the memory and the diary. The same name: nothing is new. Empty: there is nothing."""
    memory = files.read_bytes(home.path, MEMORY, 64 * home.agent.memory_max_bytes).strip()
    diary = files.listing(home.path, DIARY)
    return hashlib.sha256(repr((memory, diary)).encode()).hexdigest() if memory or diary else ""


def accept(reply: str, old: str, max_bytes: int) -> str:
    """The new memory that a reply holds. Raises `Refused` if it is empty, too large, cut off, or lost a pinned line."""
    if reply.strip() == NOTHING_TO_SAY:
        return old
    _, mark, after = reply.partition("<memory>")
    inside, end, _ = after.rpartition("</memory>")
    if mark and not end:
        raise Refused("it is cut off: </memory> is missing")
    new = (inside if mark else reply).strip().replace("\0", "")
    if not new:
        if old.strip():
            raise Refused("it is empty")
        return ""
    size = len(new.encode()) + 1
    if size > max_bytes:
        raise Refused(f"it has {size} bytes, {max_bytes} are allowed")
    kept = {line.strip() for line in new.splitlines()}
    lost = [line.strip() for line in old.splitlines() if is_pinned(line.encode()) and line.strip() not in kept]
    if lost:
        raise Refused(f"it lost {len(lost)} pinned lines, such as {lost[0][:80]!r}")
    return new + "\n"


def keep(home: Home, old: bytes, now: datetime) -> None:
    """Keep a memory that is being replaced, durably; it is one of the dreams then."""
    if old.strip():
        while files.exists(home.path, name := f"{DREAMS}/{now:%Y-%m-%dT%H%M%SZ}.md"):
            now += timedelta(seconds=1)
        files.write(home.path, name, old)


def _put_back(home: Home, before: bytes) -> None:
    """Undo what the dreamer did to the file itself: nobody has checked that."""
    try:
        if files.read_bytes(home.path, MEMORY, len(before) + 1) != before:
            files.write(home.path, MEMORY, before)
            log.warning("dreamer wrote its memory itself: put back agent=%s", home.agent.name)
    except OSError as error:
        log.error("memory not put back agent=%s error=%s", home.agent.name, error)
