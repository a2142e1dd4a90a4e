"""Whether a colony's database is what it should be: the file, the schema, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field

from colony import errors
from server import access, invariants, migrations, sqlite_file
from server.database import sqlite_path


@dataclass(frozen=True)
class Report:
    name: str
    findings: list[str]
    sizes: dict[str, int] = field(default_factory=dict)  # rows by table; of a sound one


def examine(url: str) -> Report:
    """Read all of it. Raises `NotFound` where there is none and `Unavailable` for what can't be read at all."""
    path, name = sqlite_path(url), access.shown(url)
    if path:
        access.require_there(path)
        if damage := sqlite_file.damage(path):
            return Report(name, damage)
    with access.opened(url) as database, database.read() as connection:
        try:
            migrations.require_head(connection)
        except errors.Invalid as error:
            return Report(name, [error.detail])
        return Report(name, list(invariants.findings(connection)), invariants.sizes(connection))
