"""What the machine knows of one agent: the [agent] table of the .colony.toml in its home."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from colony import config, errors
from colony.bounds import BOUNDS, DEFAULTS, IMAGE, RunnerKind, SandboxKind

GATE = r"unix:/[^/]+/[^/]+/"  # the sandbox shows the socket's folder: not all of /run
KINDS = {str: "text", int: "a whole number", bool: "true or false"}
MACHINE_FILES = (config.PROJECT_FILE, config.STATE_FILE)  # masked inside the sandbox


@dataclass(frozen=True)
class AgentSettings:
    name: str
    runner: RunnerKind = "claude"
    command: tuple[str, ...] = ()  # for the runner `command`: the program and its arguments
    claude: str = "claude"  # for the runner `claude`: its binary
    model: str = ""  # for the runner `claude`: empty leaves the choice to it
    sandbox: SandboxKind = "bwrap"
    image: str = ""  # for the sandbox `podman`: a folder that holds a root file system; empty: this host's /usr
    egress: str = ""  # the gate's socket, as unix:PATH, and the only way out of the sandbox; empty: there is none, but for a host's agents
    may_write_instructions: bool = False  # CLAUDE.md, .claude, .mcp.json and the history's .git
    repo: str = ""  # the clone that the agent works on, relative to its home
    turn_timeout_seconds: int = DEFAULTS["turn_timeout_seconds"]  # 1 s … 1 day
    lease_seconds: int = 60  # 5 s … 1 h
    pulse_minutes: int = DEFAULTS["pulse_minutes"]  # 0: no pulse; at most a week
    memory_max_bytes: int = 16_384  # 256 bytes … 48 KiB: a dream's whole answer fits in a message
    dreams_kept: int = 30


@dataclass(frozen=True)
class Home:
    """An agent's home folder with what its machine files say."""

    path: Path
    agent: AgentSettings
    colony: config.Settings

    @property
    def config_file(self) -> Path:
        return self.path / config.PROJECT_FILE


def sealed(home: Home) -> Home:
    """The home with a sandbox, whatever its turns may do: git does what it finds in a home, and no service bounds it here."""
    return replace(home, agent=replace(home.agent, sandbox="bwrap"))


def load(path: Path) -> Home:
    """The home at `path`. Raises `Invalid`, naming the file and the key, for anything unknown or of the wrong type."""
    file = path / config.PROJECT_FILE
    found = config.read_toml(file)
    if not found:
        raise errors.Invalid(f"no agent lives in {path}: it has no {config.PROJECT_FILE}")
    table = found.get("agent")
    if not isinstance(table, dict) or "name" not in table:
        raise errors.Invalid(f"{file}: the table [agent] with a name is missing")
    agent, colony = parsed(file, table), config.load(environ={}, directory=path)
    if not agent.egress and found.get("url") == f"unix:{config.HOST_SOCKET}":  # it is an agent of a host's colony, which has a gate
        agent = replace(agent, egress=f"unix:{config.HOST_GATE}")
    return Home(path, agent, colony)


def parsed(where: Path, table: dict[str, Any]) -> AgentSettings:
    """The settings that the table [agent] of a file has. Raises `Invalid`, which names the file and the key."""
    return AgentSettings(**_checked(where, table))


def _checked(file: Path, table: dict[str, Any]) -> dict[str, Any]:
    types = get_type_hints(AgentSettings)
    for key, value in table.items():
        if key not in types:
            raise errors.Invalid(f"{file}: unknown key agent.{key}; known are {', '.join(field.name for field in fields(AgentSettings))}")
        choices = get_args(types[key])
        if key == "command":
            if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
                raise errors.Invalid(f"{file}: agent.command must be a list of texts")
        elif choices and value not in choices:
            raise errors.Invalid(f"{file}: agent.{key} must be one of {', '.join(choices)}")
        elif not choices and type(value) is not types[key]:
            raise errors.Invalid(f"{file}: agent.{key} must be {KINDS[types[key]]}")
        if key == "egress" and value and not re.match(GATE, value):
            raise errors.Invalid(f"{file}: agent.egress must be unix: and an absolute path, in a folder that holds nothing else")
        if key == "image" and value and not re.fullmatch(IMAGE, value):
            raise errors.Invalid(f"{file}: agent.image must be the absolute path of a folder, without any of , : \\")
        if key in BOUNDS and not BOUNDS[key][0] <= value <= BOUNDS[key][1]:
            raise errors.Invalid(f"{file}: agent.{key} must be from {BOUNDS[key][0]} to {BOUNDS[key][1]}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
