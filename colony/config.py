"""Where the colony is and how to reach it: read once, then frozen."""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colony import errors

DEFAULT_PORT = 8700
PROJECT_FILE = ".colony.toml"
STATE_FILE = ".colony-state.json"  # beside it, in an agent's home
HOST_HOME = Path("/var/lib/colony")  # of a host's own colony
HOST_SOCKET = Path("/run/colony/api.sock")
HOST_GATE = Path("/run/colony-egress/egress.sock")  # of the gate between the host's agents and the network
HOST_RELEASES = Path("/opt/colony/releases")
HOST_USER = "colony"  # its server's Linux user
GATE_USER = "colony-egress"  # the gate's, and its name in the colony


@dataclass(frozen=True)
class Settings:
    """How one caller reaches one colony. A token goes only to the URL that was named beside it."""

    url: str
    token: str | None = None
    source: str = "the local socket"

    def __post_init__(self) -> None:
        if self.token and not re.fullmatch("[!-~]+", self.token):
            raise errors.Invalid("the token holds characters that no token has")


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a colony keeps its data: $COLONY_HOME, else /var/lib/colony for root and the user colony, else the user's data folder."""
    if named := environ.get("COLONY_HOME"):
        return Path(named).absolute()
    return HOST_HOME if keeps_host() else _xdg(environ, "XDG_DATA_HOME", ".local/share")


def keeps_host() -> bool:
    """Whether this process belongs to the host's own colony: root and the user colony do."""
    return os.geteuid() == 0 or _user_name() == HOST_USER


def socket_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The server's unix socket: /run/colony/api.sock, or within $COLONY_HOME where that is set or the user keeps no host.

    An ordinary user of a host-wide colony finds its socket in /run, too, or hears that there is none while its server is down.
    """
    private = home(environ) / "run" / "api.sock"
    if environ.get("COLONY_HOME"):
        return private
    is_host = HOST_SOCKET.exists() or HOST_RELEASES.exists()
    return HOST_SOCKET if keeps_host() or (is_host and not private.exists()) else private


def nobody_at(url: str, why: object) -> str:
    """What people are told where no colony answers, and on a host what they can do."""
    on_host = " Start it with: sudo systemctl start colony-server" if url == f"unix:{HOST_SOCKET}" else ""
    return f"no colony at {url} ({why}); is colony-server running?{on_host}"


def load(
    url: str | None = None, token: str | None = None, *, environ: Mapping[str, str] = os.environ, directory: Path | None = None
) -> Settings:
    """The settings by precedence: arguments, COLONY_URL and COLONY_TOKEN, the nearest .colony.toml, the user's file, the local socket.

    The first that names a URL decides, and brings its own token along: a .colony.toml in somebody's repository can't draw out the
    token of another colony. Raises `Invalid` for a file that can't be read or holds something else than a url and a token.
    """
    token = token or environ.get("COLONY_TOKEN") or None
    if explicit := url or environ.get("COLONY_URL"):
        return Settings(_checked(explicit), token, "the command line" if url else "COLONY_URL")
    nearest = _nearest(directory or _here())
    if nearest and not token and (settings := _from_file(nearest)):
        return settings
    personal = _from_file(user_file(environ))
    if personal:
        return Settings(personal.url, token or personal.token, personal.source)
    return Settings(f"unix:{socket_path(environ)}", token)


def user_file(environ: Mapping[str, str] = os.environ) -> Path:
    """~/.config/colony/config.toml, where `colony login` writes."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "config.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables; empty if there is no such file. Raises `Invalid` with the path and the line."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise errors.Invalid(f"can't read {path}: {error}") from error


def _from_file(path: Path) -> Settings | None:
    found = read_toml(path)
    url, token = found.get("url"), found.get("token")
    if url is None:
        return None
    if not isinstance(url, str) or not isinstance(token, str | None):
        raise errors.Invalid(f"{path}: url and token must be text")
    return Settings(_checked(url, relative_to=path.parent), token, str(path))


def _nearest(directory: Path) -> Path | None:
    """The first .colony.toml from here upward that nobody but this user or root can have written."""
    for folder in (directory, *directory.parents):
        path = folder / PROJECT_FILE
        try:
            facts = path.stat()
        except OSError:
            continue
        if facts.st_uid in (0, os.geteuid()) and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return path
    return None


def _checked(url: str, relative_to: Path | None = None) -> str:
    if url.startswith("unix:"):
        path = Path(url.removeprefix("unix:").removeprefix("//"))
        return f"unix:{(relative_to or _here()) / path}"
    if url.startswith(("http://", "https://")):
        return url.rstrip("/")
    raise errors.Invalid(f"{url!r} is no colony's address; give unix:/path/to/api.sock, http://… or https://…")


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # the folder was removed under us
        return Path("/")


def _xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    base = environ.get(variable)
    return (Path(base) if base else Path(environ.get("HOME") or Path.home()) / fallback) / "colony"
