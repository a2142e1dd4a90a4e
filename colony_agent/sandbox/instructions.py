"""What tells an agent who it is and how to live: read-only inside, so that nothing it was talked into there outlives the turn.

The folders are covered whole, with what Claude Code must write left open: what a later release of it may take for instructions is then
covered, too. Git is part of this for its hooks and its settings, and since what an agent was is told by its history.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from colony import files
from colony.failures import CRASHED
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import view

FILES = {  # with what they are created with: only what exists can be covered
    "CLAUDE.md": b"",
    "CLAUDE.local.md": b"",
    "AGENTS.md": b"",  # taken where CLAUDE.md is empty
    ".mcp.json": b'{"mcpServers": {}}\n',
}
CONFIG = ".claude.json"  # Claude Code writes down there what it knows of itself, and obeys it: the environment that it names, too
_MIGRATION = 15  # that Claude Code as it is pinned is at
_PLUGINS = ("agents-md", "privacy", "plugin-authoring")  # that it has within
CLAUDE, GIT = ".claude", ".git"
OPEN = (".claude/projects",)  # sessions; it does without all else


@dataclass(frozen=True)
class Cover:
    """A path in the home that is shown again, over itself."""

    path: Path
    is_open: bool = False  # it can be written


def covers(home: Path, *, writes_history: bool = False) -> Iterator[Cover]:
    """In this order, over a home that is shown already. Raises `RunnerFailed` where a link would lead around a cover."""
    for name, content in FILES.items():
        yield Cover(_made(home / name, content))
    yield Cover(_made(home / CLAUDE))
    for name in OPEN:
        yield Cover(_made(home / name), is_open=True)
    yield Cover(_made(home / GIT), is_open=writes_history)


def config_path(home: Path) -> Path:
    """Where `config` is shown, whatever is there. Raises `RunnerFailed`."""
    try:
        files.clear_way(home, CONFIG)
    except OSError as error:
        raise RunnerFailed(CRASHED, f"can't cover {home} in the sandbox: {error}") from error
    return view.existing(home / CONFIG)


def config(agent: str) -> str:
    """What Claude Code finds of itself: as little as keeps it from writing it down.

    It may not, but would try at each start: some eight times, each by a file that it has the disk confirm and two renames that fail.
    """
    identity = hashlib.sha256(agent.encode()).hexdigest()
    unused = {"usageCount": 0, "lastUsedAt": 1, "lastUsedNumStartups": 0}
    found = {
        "firstStartTime": "2026-01-01T00:00:00.000Z",
        "machineID": identity,
        "userID": identity,
        "migrationVersion": _MIGRATION,
        "pluginUsage": {f"cc-plugin-{name}@builtin": unused for name in _PLUGINS},
    }
    return json.dumps(found) + "\n"


def _made(path: Path, content: bytes | None = None) -> Path:
    """The path, with a file or a folder there: whatever else the agent may have put there before, but no link."""
    try:
        try:
            if content is None:
                path.mkdir(mode=0o700)
            else:
                _write_new(path, content)
        except FileExistsError:
            if stat.S_ISLNK(path.lstat().st_mode):
                raise OSError(0, "it is a link; replace it by what it leads to") from None
    except OSError as error:
        raise RunnerFailed(CRASHED, f"can't cover {path} in the sandbox: {error.strerror}") from error
    return path


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
