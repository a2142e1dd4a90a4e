"""What the host knows of an agent: /etc/colony/agents/NAME.toml, from which its units are made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colony import config, errors, schema
from provisioning import places

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,29}[a-z0-9])?")
MEMORY_MAX_BYTES = 4 * 2**30
HOME_MAX_BYTES = 10 * 2**30
MIN_BYTES = 64 * 2**20  # of either


@dataclass(frozen=True)
class Record:
    name: str
    runner: str  # claude or command
    born_at: str  # ISO 8601, UTC
    memory_max_bytes: int = MEMORY_MAX_BYTES  # of all its processes together
    home_max_bytes: int = HOME_MAX_BYTES  # of its home; who holds more is paused
    is_born: bool = False  # True: nothing is missing any more
    repo: str = ""  # of which it was born with a clone
    origin: str = ""  # the archive that it has its home from

    @property
    def path(self) -> Path:
        return path(self.name)

    @property
    def text(self) -> str:
        """The file. After a change `colony-agent upgrade NAME` makes the units anew."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(self).items())


_KEYS = frozenset(field.name for field in fields(Record))


def path(name: str) -> Path:
    return places.RECORDS / f"{name}.toml"


def read(name: str) -> Record | None:
    """None where the host knows no such agent. Raises `Invalid` for a file that says something else."""
    found = config.read_toml(path(name))
    if not found:
        return None
    record = parsed(found, path(name))
    if record.name != name:
        raise errors.Invalid(f"{path(name)}: it is {record.name}'s")
    return record


def parsed(found: Mapping[str, Any], where: Path | str) -> Record:
    """The record that such a table is. Raises `Invalid`, which names where it stands.

    What a later release has written there is passed over: a host goes back to the release before with its agents.
    """
    try:
        record = Record(**{key: value for key, value in found.items() if key in _KEYS})
        datetime.fromisoformat(record.born_at)
        bounds = (record.memory_max_bytes, record.home_max_bytes)
        is_bounded = all(isinstance(bound, int) and bound >= MIN_BYTES for bound in bounds)
        has_texts = all(isinstance(text, str) for text in (record.name, record.repo, record.origin))
        if not (record.runner in ("claude", "command") and has_texts and is_bounded):
            raise ValueError("it must hold the agent's name, runner, born_at, and memory_max_bytes and home_max_bytes of at least 64 MiB")
    except (TypeError, ValueError) as error:
        raise errors.Invalid(f"{where}: {error}") from error
    return record


def unknown_keys(name: str) -> list[str]:
    """What its file says and this release passes over: a later one wrote it, or somebody mistyped."""
    return sorted(config.read_toml(path(name)).keys() - _KEYS)


def names() -> list[str]:
    """The agents of this host; none for who may not know."""
    try:
        return sorted(entry.removesuffix(".toml") for entry in os.listdir(places.RECORDS) if entry.endswith(".toml"))
    except (FileNotFoundError, PermissionError):
        return []


def checked_name(name: str) -> str:
    """Raises `Invalid` for what can't be the name of an agent and of its Linux user."""
    if name in schema.BROADCASTS:
        raise errors.Invalid(f"{name} is no agent's name: @{name} addresses all of them")
    if not NAME.fullmatch(name):
        raise errors.Invalid(f"{name!r} can't be an agent's name: up to 31 of a-z, 0-9 and -, a letter first and no - at the end")
    return name


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
