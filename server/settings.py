"""The settings file of a host's server, /etc/colony/server.toml: options of `colony-server` that need not be said each time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from colony import config, errors

HOST_FILE = Path("/etc/colony/server.toml")
COMMANDS = ("run", "backup", "prune")  # those that have a table; what is not in a table is an option of colony-server itself
GENERAL = ("database",)
OTHERS = ("homes",)  # tables that are not for this program


def file(named: Path | None, home: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file that applies: the one that is named, or the host's for those who keep it, unless they name another colony's home."""
    if named:
        return named
    is_elsewhere = home or environ.get("COLONY_HOME") or not config.keeps_host()
    return None if is_elsewhere or not HOST_FILE.exists() else HOST_FILE


def read(path: Path, group: click.Group) -> dict[str, Any]:
    """What the file says, as a `default_map`. Raises `Invalid` for what can't be read, is unknown or of the wrong kind."""
    if not path.exists():
        raise errors.NotFound(f"there is no {path}; give the path of a settings file with --config")
    found = config.read_toml(path)
    _check(path, "", found, {name: option for name, option in _options(group).items() if name in GENERAL}, more=(*COMMANDS, *OTHERS))
    for name in COMMANDS:
        table = found.get(name, {})
        if not isinstance(table, dict):
            raise errors.Invalid(f"{path}: {name} must be a table: [{name}]")
        _check(path, f"[{name}] ", table, _options(group.commands[name]))
    return found


def _options(command: click.Command) -> dict[str, click.Option]:
    return {str(option.name): option for option in command.params if isinstance(option, click.Option)}


def _check(path: Path, where: str, found: dict[str, Any], known: dict[str, click.Option], more: tuple[str, ...] = ()) -> None:
    for key, value in found.items():
        if key in more:
            continue
        if key not in known:
            raise errors.Invalid(f"{path}: {where}{key} is unknown; known are {', '.join([*known, *(f'[{name}]' for name in more)])}")
        kinds, says = _KINDS.get(type(known[key].type), (str, "a text"))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise errors.Invalid(f"{path}: {where}{key} must be {says}, not {value!r}")
        try:
            known[key].type.convert(value, known[key], None)
        except click.BadParameter as error:
            raise errors.Invalid(f"{path}: {where}{key}: {error.message}") from error


_KINDS: dict[type[click.ParamType[Any]], tuple[type | tuple[type, ...], str]] = {
    click.IntRange: (int, "a whole number"),
    click.FloatRange: ((int, float), "a number"),
}
