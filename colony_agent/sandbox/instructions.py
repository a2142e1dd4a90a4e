"""What tells an agent who it is and how to live: read-only inside, so that nothing it was talked into there outlives the turn.

The folders are covered whole, with what Claude Code must write left open: what a later release of it may take for instructions is then
covered, too. Git is part of this for its hooks and its settings, and since what an agent was is told by its history.
"""

from __future__ import annotations

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
MADE_UP = {
    ".claude.json": "{}\n"
}  # Claude Code writes down there what it knows of itself, and obeys it: the environment that it names, too
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


def made_up(home: Path) -> dict[Path, str]:
    """What is shown as this text, whatever is there. Raises `RunnerFailed`."""
    try:
        for name in MADE_UP:
            files.clear_way(home, name)
    except OSError as error:
        raise RunnerFailed(CRASHED, f"can't cover {home} in the sandbox: {error}") from error
    return {view.existing(home / name): text for name, text in MADE_UP.items()}


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
