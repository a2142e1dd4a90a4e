"""/etc/colony/server.toml as far as the host's units depend on it, and as it is first written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from colony import config, errors
from provisioning import places, units

_LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Homes:
    """The table [homes]: what is kept of agents' homes."""

    keep: int = 7  # backups of each
    max_mb: int = 256  # of a home that goes into one, before it is compressed


@dataclass(frozen=True)
class ServerSettings:
    database: str = ""  # an SQLAlchemy URL; empty: colony.db among the data
    port: int = config.DEFAULT_PORT
    homes: Homes = Homes()

    @property
    def is_sqlite(self) -> bool:
        return not self.database.startswith("postgresql")

    @property
    def database_host(self) -> str:
        """Another machine, on which the database is."""
        if self.is_sqlite:
            return ""
        url = urlsplit(self.database)
        host = parse_qs(url.query).get("host", [""])[-1] or url.hostname or ""
        return "" if host in _LOCAL or host.startswith("/") else host

    @property
    def database_file(self) -> Path | None:
        if not self.is_sqlite:
            return None
        return Path(self.database.removeprefix("sqlite:///")) if self.database else places.DATA / "colony.db"


def read(path: Path = places.SERVER_SETTINGS) -> ServerSettings | None:
    """What the file says; None where there is none. All else in it `colony-server check-settings` judges. Raises `Invalid`."""
    if not path.exists():
        return None
    found = config.read_toml(path)
    database, run = found.get("database", ""), found.get("run", {})
    port = run.get("port", config.DEFAULT_PORT) if isinstance(run, dict) else None
    if not (isinstance(database, str) and isinstance(port, int)):
        raise errors.Invalid(f"{path}: database must be a text and [run] port a number")
    known = ServerSettings(database, port, _homes(path, found.get("homes", {})))
    if known.database_file and places.DATA not in known.database_file.parents:
        raise errors.Invalid(f"{path}: the server can write in {places.DATA} only; name a file there, or a PostgreSQL")
    return known


def _homes(path: Path, found: object) -> Homes:
    known = [field.name for field in fields(Homes)]
    if not isinstance(found, dict) or not all(key in known and type(value) is int and value > 0 for key, value in found.items()):
        raise errors.Invalid(f"{path}: homes must be a table, [homes], of {' and '.join(known)}, with whole numbers above 0")
    return Homes(**found)


def first_gate_text() -> str:
    """The gate's file as an install writes it."""
    return units.write("egress.toml.j2", {})


def first_text(port: int) -> str:
    """The file as an install writes it: every option with its default, for people to change."""
    return units.write("server.toml.j2", {"port": port, "default_port": config.DEFAULT_PORT})
