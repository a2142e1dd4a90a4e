"""Homes of agents, and their real workers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.house import House
from bench.processes import running

COMMAND = [sys.executable, "-c", "from colony_agent.cli import main; main()"]


def settle(house: House, name: str, settings: Mapping[str, str] | None = None) -> Path:
    """A home for an agent of the house, with these lines in its [agent] table."""
    home = house.home / "agents" / name
    home.mkdir(parents=True, mode=0o700)
    (home / "CLAUDE.md").write_text(f"You are {name}. Answer briefly.\n")
    lines = [f"url = {json.dumps(f'unix:{house.socket}')}", f"token = {json.dumps(house.agents[name])}", "", "[agent]", f'name = "{name}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in (settings or {}).items()]
    config = home / ".colony.toml"
    config.touch(mode=0o600)
    config.write_text("\n".join([*lines, ""]))
    return home


@contextmanager
def working(home: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """The process id of the worker of this home, once it holds its long poll."""
    log = home.with_suffix(".log")
    argv: list[str | Path] = [*COMMAND, "worker", "--home", home]
    environ = {"TMPDIR": str(home.parent), **(env or {})}  # where all goes at the end
    with running(argv, log, env=environ, ready=lambda: "status=healthy" in log.read_text()) as process:
        yield process.pid
