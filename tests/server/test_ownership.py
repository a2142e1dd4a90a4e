"""Who leaves while something of theirs changes leaves nothing behind: on PostgreSQL both happen at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from colony import errors, schema
from server import keyring
from server.database import PostgreSQL, open_database
from server.models import departure, ownership, secret, user
from server.models.base import now
from tests.server.postgres import Postgres

SECRET = schema.SetSecret(name="KEY", agent="scout", value="ghp_very_secret", hosts=["api.example"])


@pytest.fixture
def database(postgres: Postgres) -> Iterator[PostgreSQL]:
    """Where ann owns scout."""
    url = postgres.fresh()
    opened = open_database(url)
    assert isinstance(opened, PostgreSQL)
    opened.write(lambda connection: ownership.give(connection, "scout", "ann"))
    yield opened
    opened.close()
    postgres.drop(url)


@contextmanager
def meanwhile(
    database: PostgreSQL, first: Callable[[Connection], object], then: Callable[[Connection], object]
) -> Iterator[Future[object]]:
    """What `then` comes to, which begins when `first` is done and not committed yet."""
    done, go = threading.Event(), threading.Event()

    def held(connection: Connection) -> None:
        first(connection)
        done.set()
        assert go.wait(10)

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(database.write, held)
        assert done.wait(10)
        following: Future[object] = pool.submit(database.write, then)
        until_it_waits(database)
        go.set()
        holding.result(10)
        yield following


def until_it_waits(database: PostgreSQL) -> None:
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(1000):
        with database.read() as connection:
            if connection.execute(waits).scalar_one():
                return
    raise AssertionError("it waits for nobody")


def leave(connection: Connection) -> None:
    departure.depart(connection, "ann", now())


def test_what_an_owner_lends_while_they_leave_goes_with_them(database: PostgreSQL, tmp_path: Path) -> None:
    ring = keyring.begun(tmp_path / "keys")

    def lend(connection: Connection) -> None:
        agent, ann = user.find_agent(connection, "scout", lock=True), user.find(connection, "ann")
        secret.put(connection, agent.id, SECRET, ann.id, ring, now())

    with meanwhile(database, lend, leave) as left:
        left.result(10)
    with database.read() as connection:
        assert not secret.listed(connection, None, None)


def test_who_leaves_is_given_nothing(database: PostgreSQL) -> None:
    with meanwhile(database, leave, lambda connection: ownership.give(connection, "rook", "ann")) as given, pytest.raises(errors.Invalid):
        given.result(10)
