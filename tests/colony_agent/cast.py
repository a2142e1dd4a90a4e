"""An agent's home and a turn, for the tests of what runs there."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from colony import config, schema
from colony_agent.runner import Brief, Session, Task
from colony_agent.settings import AgentSettings, Home

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def scout_at(path: Path, **settings: Any) -> Home:
    """Scout's home, with the files that a birth leaves there."""
    path.mkdir(parents=True, exist_ok=True)
    (path / ".colony.toml").write_text('[agent]\nname = "scout"\n')
    (path / ".colony-state.json").write_text('{"turn": 7}')
    return Home(path, AgentSettings("scout", **settings), config.Settings("unix:/run/colony/api.sock"))


def task(prompt: str = "hello", *bodies: str, session: Session | None = None, timeout_seconds: float = 20, **turn: Any) -> Task:
    brief = Brief(prompt, turn_of(*bodies, **turn))
    return Task(lambda: brief, session, timeout_seconds, brief.turn.reserved_usd)


def turn_of(*bodies: str, **more: Any) -> schema.Turn:
    """A turn of scout over messages by ann."""
    known: dict[str, Any] = {"id": 7, "agent": "scout", "kind": "answer", "channel": "general", "state": "running", "attempt": 1}
    return schema.Turn(**{**known, "lease_until": NOW, "started_at": NOW, "items": list(map(_item, bodies)), **more})


def _item(body: str) -> schema.InboxItem:
    message = schema.Message(id=1, channel="general", seq=1, author="ann", author_kind="ape", body=body, type="text", created_at=NOW)
    return schema.InboxItem(id=1, trigger="mention", created_at=NOW, message=message)


def new_mark() -> str:
    """A number of seconds that no other process of this machine sleeps."""
    return f"60.{uuid4().int}"


def running(marker: str) -> list[psutil.Process]:
    """The processes of this machine that have `marker` in their command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if any(marker in word for word in process.info["cmdline"] or ())]


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
