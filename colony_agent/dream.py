"""A dream: the agent compacts its memory. The new one is checked, swapped in whole and committed; the old one is kept."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from colony import failures, files, schema
from colony_agent import process, prompt
from colony_agent.runner import Answer, Brief, Runner, RunnerFailed, Task
from colony_agent.sandbox import for_home
from colony_agent.settings import Home

log = logging.getLogger(__name__)

MEMORY = "memory/memory.md"
DREAMS = "memory/dreams"
PIN = "[pinned]"
NOTHING_TO_SAY = "HEARTBEAT_OK"  # it leaves the memory as it is
DREAM_SECONDS = 600
GIT_SECONDS = 30
COMMITTED = ("CLAUDE.md", "heartbeat.md", "memory", ".claude/rules")


class Refused(ValueError):
    """The new memory would lose something."""


def dream(home: Home, turn: schema.Turn, runner: Runner) -> Answer:
    """Let the runner rewrite the memory. Raises `RunnerFailed`; the memory is then as it was."""
    limit = home.agent.memory_max_bytes
    # What outgrew its bound is shown whole, so that nothing is lost unread; a dream that fails leaves it alone.
    old = files.read(home.path, MEMORY, 64 * limit)
    now = datetime.now(UTC)
    brief = Brief(prompt.render_dream(turn.agent, old, limit, now), turn)
    task = Task(lambda: brief, None, min(DREAM_SECONDS, home.agent.turn_timeout_seconds), turn.reserved_usd)
    answer = runner.run(task, lambda text: log.info("dream turn=%d %s", turn.id, text))
    try:
        new = accept(answer.reply, old, limit)
    except Refused as error:
        raise RunnerFailed(failures.CRASHED, f"the dream's memory was refused: {error}", usage=answer.usage) from error
    if new != old:
        if old.strip():
            files.write(home.path, f"{DREAMS}/{now:%Y-%m-%dT%H%M%SZ}.md", old)
        files.write(home.path, MEMORY, new)
        files.prune(home.path, DREAMS, home.agent.dreams_kept)
    commit(home, f"Dream of {now:%Y-%m-%d %H:%M} UTC")
    return Answer("", answer.usage, None)


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
    lost = [line.strip() for line in old.splitlines() if PIN in line and line.strip() not in kept]
    if lost:
        raise Refused(f"it lost {len(lost)} pinned lines, such as {lost[0][:80]!r}")
    return new + "\n"


def commit(home: Home, message: str) -> None:
    """Record the home's text files in its git repository. Git runs in the sandbox: the agent can write its hooks and settings.

    What the agent did to its repository can stop that, and costs the agent no more than its history.
    """
    try:
        _commit(home, message)
    except RunnerFailed as failed:
        log.warning("home not committed agent=%s: %s", home.agent.name, failed.detail)


def _commit(home: Home, message: str) -> None:
    identity = ("-c", f"user.name={home.agent.name}", "-c", f"user.email={home.agent.name}@colony.invalid")
    present = [name for name in COMMITTED if (home.path / name).exists()]
    _git(home, "init", "--quiet")
    _git(home, "add", "--", *present)
    if _git(home, "diff", "--cached", "--quiet") != 0:
        _git(home, *identity, "commit", "--quiet", "--message", message)


def _git(home: Home, *words: str) -> int:
    command = for_home(home).confine(["git", *words], {})
    ended = process.run(command, b"", lambda line: None, GIT_SECONDS, threading.Event())
    if ended.stderr.strip():
        log.warning("git said command=%s: %s", words[0], ended.last_words)
    return ended.returncode
