"""/etc/colony/server.toml as far as the host's units depend on it, and as it is first written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from colony import config, errors
from provisioning import places, units

_LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServerSettings:
    home: Path = places.DATA
    database: str = ""  # an SQLAlchemy URL; empty: colony.db in the home
    port: int = config.DEFAULT_PORT

    @property
    def is_sqlite(self) -> bool:
        return not self.database.startswith("postgresql")

    @property
    def database_host(self) -> str:
        """Another machine, on which the database is."""
        host = "" if self.is_sqlite else urlsplit(self.database).hostname or ""
        return "" if host in _LOCAL else host

    @property
    def database_file(self) -> Path | None:
        if not self.is_sqlite:
            return None
        return Path(self.database.removeprefix("sqlite:///")) if self.database else self.home / "colony.db"


def read(path: Path = places.SERVER_SETTINGS) -> ServerSettings | None:
    """What the file says; None where there is none. Whether it is right in all else the server finds out. Raises `Invalid`."""
    if not path.exists():
        return None
    found = config.read_toml(path)
    home, database = found.get("home", str(places.DATA)), found.get("database", "")
    run = found.get("run", {})
    port = run.get("port", config.DEFAULT_PORT) if isinstance(run, dict) else None
    if not (isinstance(home, str) and isinstance(database, str) and isinstance(port, int)):
        raise errors.Invalid(f"{path}: home and database must be texts and [run] port a number")
    return ServerSettings(Path(home), database, port)


def first_text(port: int) -> str:
    """The file as an install writes it: every option with its default, for people to change."""
    return units.write("server.toml.j2", {"port": port, "default_port": config.DEFAULT_PORT})
