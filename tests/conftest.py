"""The fixtures of all tests. Their types are in `tests/server/`: `support.py`, `serving.py` and `postgres.py`.

- `colony`: a colony in this process with its standing cast, once on SQLite and once on PostgreSQL.
  `colony.post(colony.ann, "hi @scout")`, `colony.turn(colony.scout)`, `colony.clock.advance(30)`.
  A test for which the database makes no difference says `@only_sqlite` (from `tests.server.support`).
- `server`: the real `colony-server run` as a process, on a unix socket and a loopback port, over SQLite with the same cast.
- `database_url`, `clock`, `postgres`, `sqlite_file`: what these two are made of.
- `machine`: a throw-away machine with a real systemd and Colony installed; `bare_machine`: without (see `tests/guest/fixtures.py`).
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from server.database import sqlite_url
from tests.server.cast import sqlite_template
from tests.server.postgres import Postgres
from tests.server.serving import Server
from tests.server.support import Clock, Colony

pytest_plugins = ["tests.guest.fixtures"]

hypothesis.settings.register_profile("untimed", deadline=None)  # on a busy machine any example may take long
hypothesis.settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what runs in the background: Ctrl-C could not be tested
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL, started at the first use in each pytest process. A machine without its binaries fails the test."""
    cluster = Postgres()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file with the standing cast; copy it, never write to it."""
    return sqlite_template(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database with the standing cast, on each kind of storage."""
    if request.param == "sqlite":
        yield sqlite_url(shutil.copyfile(request.getfixturevalue("sqlite_file"), tmp_path / "colony.db"))
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.fresh()
        yield url
        postgres.drop(url)


@pytest.fixture
def clock() -> Clock:
    """The time of `colony`: it stands still until `clock.advance(seconds)`."""
    return Clock()


@pytest.fixture
def colony(database_url: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Colony]:
    """A colony in this process with ann and bob (apes), scout and rook (healthy agents), eve (a wrong token) and an admin."""
    monkeypatch.setenv("COLONY_HOME", str(tmp_path))  # for what lies in no database
    colony = Colony(database_url, clock)
    yield colony
    colony.close()


@pytest.fixture
def server(sqlite_file: Path) -> Iterator[Server]:
    """The real server as a process; afterwards it is stopped and has left nothing behind."""
    server = Server(sqlite_file)
    try:
        server.start()
        yield server
    finally:
        server.close()
