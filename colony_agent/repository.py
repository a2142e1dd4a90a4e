"""An agent's home as a git repository. Git runs in the sandbox: the agent can write its hooks and settings, and all that git says."""

from __future__ import annotations

import logging
import threading

from colony_agent import process
from colony_agent.process import Exit
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import for_home
from colony_agent.settings import Home

log = logging.getLogger(__name__)

GIT_SECONDS = 30
COMMITTED = ("CLAUDE.md", "heartbeat.md", "memory", ".claude/rules")


# In its home an agent can hook programs to git, which would run where the history can be written.
ITS_OWN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
HOOKLESS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def commit(home: Home, message: str) -> None:
    """Record the home's text files. What the agent did to its repository can stop that, and costs the agent no more than its history."""
    try:
        _commit(home, message)
    except RunnerFailed as failed:
        log.warning("home not committed agent=%s: %s", home.agent.name, failed.detail)


def git(home: Home, *words: str) -> tuple[Exit, bytes]:
    """How git ended and what it printed. Raises `RunnerFailed` when it takes too long or floods its output."""
    said = bytearray()
    command = for_home(home, keeps_history=True).confine(["git", *HOOKLESS, *words], ITS_OWN)
    ended = process.run(command, b"", lambda line: said.extend(line + b"\n"), GIT_SECONDS, threading.Event())
    return ended, bytes(said)


def _commit(home: Home, message: str) -> None:
    identity = ("-c", f"user.name={home.agent.name}", "-c", f"user.email={home.agent.name}@colony.invalid")
    present = [name for name in COMMITTED if (home.path / name).exists()]
    _do(home, "init", "--quiet")
    _do(home, "add", "--", *present)
    if _do(home, "diff", "--cached", "--quiet") != 0:
        _do(home, *identity, "commit", "--quiet", "--message", message)


def _do(home: Home, *words: str) -> int:
    ended, _ = git(home, *words)
    if ended.stderr.strip():
        log.warning("git said command=%s: %s", words[0], ended.last_words)
    return ended.returncode
