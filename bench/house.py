"""A colony to measure: the real server as its own process, on a fresh database with known users."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import Connection

from bench import wire
from bench.figures import Plan
from bench.processes import running
from server import migrations
from server.database import open_database, sqlite_url
from server.models import base
from server.models.channel import channels, watches
from server.models.user import token_hash, users

SERVER = [sys.executable, "-c", "from server.cli import main; main()"]


@dataclass(frozen=True)
class House:
    """Where the server is and who may call it. `ann` is an ape; she watches nothing."""

    home: Path
    socket: Path
    ann: str  # tokens
    agents: dict[str, str]

    @property
    def database(self) -> Path:
        return self.home / "colony.db"


@contextmanager
def built(plan: Plan, agents: int) -> Iterator[House]:
    """A house without a server: channel `quiet`, and `crowd` that every agent watches."""
    home = Path(tempfile.mkdtemp(prefix="house-", dir=plan.folder))
    house = House(home, home / "api.sock", secrets.token_urlsafe(32), {f"agent{n}": secrets.token_urlsafe(32) for n in range(agents)})
    database = open_database(sqlite_url(house.database))
    try:
        database.write(lambda connection: _furnish(connection, house))
    finally:
        database.close()
    yield house
    shutil.rmtree(home, ignore_errors=True)  # a large history need not stay until the end of the run


@contextmanager
def served(house: House) -> Iterator[psutil.Process]:
    """The master of the server of this house, once it answers."""
    argv: list[str | Path] = [*SERVER, "--home", house.home, "run", "--port", "0", "--socket", house.socket]
    with running(argv, house.home / "server.log", ready=lambda: answers(house.socket)) as process:
        yield psutil.Process(process.pid)


@contextmanager
def open_house(plan: Plan, agents: int) -> Iterator[tuple[House, psutil.Process]]:
    with built(plan, agents) as house, served(house) as server:
        yield house, server


def answers(path: Path) -> bool:
    """Whether a server listens there and is well."""
    try:
        connection = wire.Connection(path)
    except OSError:
        return False
    try:
        connection.ask(wire.request("GET", "/healthz"))
    except (OSError, RuntimeError):
        return False
    finally:
        connection.close()
    return True


def _furnish(connection: Connection, house: House) -> None:
    migrations.upgrade(connection)
    tokens = {"ann": house.ann, **house.agents}
    rows = [
        {
            "username": name,
            "kind": "ape" if name == "ann" else "agent",
            "status": "healthy",
            "token_hash": token_hash(token),
            "created_at": base.now(),
        }
        for name, token in tokens.items()
    ]
    connection.execute(users.insert(), rows)
    connection.execute(channels.insert(), [{"name": name, "created_at": base.now()} for name in ("quiet", "crowd")])
    crowd = connection.execute(channels.select().where(channels.c.name == "crowd")).one()
    agents = connection.execute(users.select().where(users.c.username.in_(house.agents))).all()
    if agents:
        connection.execute(watches.insert(), [{"channel_id": crowd.id, "user_id": row.id} for row in agents])
