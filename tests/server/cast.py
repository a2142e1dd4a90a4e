"""The standing cast of the tests' colonies, and a database that holds it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, update

from colony import schema
from server import migrations
from server.database import open_database, sqlite_url
from server.models import user
from server.models.base import now
from server.models.user import users

APES, AGENTS = ("ann", "bob"), ("scout", "rook")
WRONG_TOKEN = "eve-has-no-account"


def token_of(username: str) -> str:
    """The token of one of the standing cast; alike in every test, so that a database can be copied."""
    return f"{username}-s-own-token"


def settle_cast(connection: Connection) -> None:
    """A migrated database with ann and bob (apes), scout and rook (healthy agents), each with the token `token_of(name)`."""
    migrations.upgrade(connection)
    for name in APES + AGENTS:
        user.create(connection, schema.CreateUser(username=name, kind="ape" if name in APES else "agent"), now())
        hashed = user.token_hash(token_of(name))
        connection.execute(update(users).where(users.c.username == name).values(token_hash=hashed, status="healthy"))


def sqlite_template(folder: Path) -> Path:
    """A file with the standing cast, to be copied."""
    path = folder / "template.db"
    database = open_database(sqlite_url(path))
    database.write(settle_cast)
    database.close()
    assert not path.with_name("template.db-wal").exists(), "a copy of the file alone would be incomplete"
    return path
