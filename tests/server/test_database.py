"""What was acknowledged is kept, and what failed leaves nothing: the writer, the file, and kill -9."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError, OperationalError

from colony import errors, operations, schema
from server import database as database_module
from server.database import FIXED_SQLITE, TRIES, PostgreSQL, SQLite, open_database, sqlite_url
from tests.server.cast import settle_cast, token_of
from tests.server.machine import as_root
from tests.server.postgres import Postgres
from tests.server.serving import Server
from tests.server.support import Clock, Colony, problem


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLite]:
    database = SQLite(tmp_path / "numbers.db")
    database.write(lambda connection: connection.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")))
    yield database
    database.close()


def insert(n: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": n})
        return n

    return work


def numbers(database: SQLite) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT n FROM numbers ORDER BY n")).scalars())


def in_one_batch(database: SQLite, works: list[Callable[[Connection], object]]) -> list[Future[object]]:
    """Let the writer find all of them waiting, behind one that holds the seat until they are there."""
    entered, go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        entered.set()
        assert go.wait(10)

    pool = ThreadPoolExecutor(len(works) + 1)
    holding = pool.submit(database.write, hold)
    assert entered.wait(10)
    futures: list[Future[object]] = []
    for work in works:
        futures.append(pool.submit(database.write, work))
        while database.writer.queued < len(futures):
            assert not futures[-1].done()
    go.set()
    holding.result(10)
    pool.shutdown()
    return futures


def test_a_unit_that_fails_in_a_batch_loses_only_itself(database: SQLite) -> None:
    def half_done(connection: Connection) -> None:
        connection.execute(text("INSERT INTO numbers VALUES (100)"))
        raise ZeroDivisionError

    futures = in_one_batch(database, [insert(1), half_done, insert(2), insert(1), insert(3)])
    assert [futures[n].result() for n in (0, 2, 4)] == [1, 2, 3]
    assert isinstance(futures[1].exception(), ZeroDivisionError)
    assert isinstance(futures[3].exception(), DatabaseError)
    assert numbers(database) == [1, 2, 3]


def test_a_unit_that_fails_within_its_own_savepoint_loses_only_that(database: SQLite) -> None:
    def work(connection: Connection) -> str:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
        with suppress(ZeroDivisionError), connection.begin_nested():
            connection.execute(text("INSERT INTO numbers VALUES (2)"))
            raise ZeroDivisionError
        connection.execute(text("INSERT INTO numbers VALUES (3)"))
        return "done"

    assert [future.result() for future in in_one_batch(database, [work, insert(4)])] == ["done", 4]
    assert numbers(database) == [1, 3, 4]


def test_a_commit_that_fails_reaches_all_callers_and_the_writer_goes_on(database: SQLite) -> None:
    def set_up(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"))

    def orphan(connection: Connection) -> None:
        connection.execute(text("INSERT INTO children VALUES (7)"))  # refused at the commit

    database.write(set_up)
    futures = in_one_batch(database, [insert(1), orphan, insert(2)])
    assert all(isinstance(future.exception(), DatabaseError) for future in futures)
    assert numbers(database) == []
    assert database.write(insert(3)) == 3
    assert numbers(database) == [3]


def test_a_unit_that_is_interrupted_leaves_nobody_hanging(database: SQLite) -> None:
    def interrupted(connection: Connection) -> None:
        raise SystemExit

    futures = in_one_batch(database, [insert(1), interrupted, insert(2)])
    assert all(future.exception(10) for future in futures)
    assert database.write(insert(3)) == 3


def test_a_hundred_threads_write_and_nobody_is_locked_out(database: SQLite) -> None:
    with ThreadPoolExecutor(100) as pool:
        assert sorted(pool.map(lambda n: database.write(insert(n)), range(2000))) == list(range(2000))
    assert numbers(database) == list(range(2000))


def test_readers_cannot_write_and_see_one_moment(database: SQLite) -> None:
    with database.read() as connection, pytest.raises(OperationalError, match=r"readonly|query_only|read-only"):
        connection.execute(text("INSERT INTO numbers VALUES (9)"))
    with database.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM numbers")).scalar()
        database.write(insert(1))
        assert connection.execute(text("SELECT count(*) FROM numbers")).scalar() == before == 0


def test_the_file_is_as_durable_as_it_must_be(database: SQLite) -> None:
    durable = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "journal_size_limit": 64 * 2**20}

    def settings(connection: Connection) -> dict[str, object]:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in (*durable, "query_only")}

    with database.read() as connection:
        assert settings(connection) == durable | {"query_only": 1}
        assert tuple(map(int, connection.exec_driver_sql("SELECT sqlite_version()").scalar_one().split("."))) >= FIXED_SQLITE
    assert database.write(settings) == durable | {"query_only": 0}


def test_what_moves_to_the_file_is_bounded_and_not_moved_too_often(database: SQLite, tmp_path: Path) -> None:
    log, sizes = tmp_path / "numbers.db-wal", []
    database.write(lambda connection: connection.execute(text("CREATE TABLE pages (content BLOB)")))
    for _ in range(24):
        database.write(lambda connection: connection.execute(text("INSERT INTO pages VALUES (zeroblob(1048576))")))
        sizes.append(log.stat().st_size)
    assert max(sizes[:8]) > 8 * 2**20, "a few posts to many inboxes write as much"
    assert max(sizes) < 20 * 2**20


def test_an_sqlite_that_can_lose_writes_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    SQLite(tmp_path / "a.db").close()
    assert caplog.text == ""
    monkeypatch.setattr(database_module, "FIXED_SQLITE", (9, 9, 9))
    SQLite(tmp_path / "b.db").close()
    assert "can lose committed writes" in caplog.text


def test_a_colony_lives_on_no_other_database() -> None:
    with pytest.raises(errors.Invalid, match="mysql"):
        open_database("mysql://localhost/colony")


@pytest.fixture
def postgresql(postgres: Postgres) -> Iterator[PostgreSQL]:
    url = postgres.fresh()
    database = PostgreSQL(url)
    yield database
    database.close()
    postgres.drop(url)


def failing(tries: list[int], sqlstate: str) -> Callable[[Connection], None]:
    """A unit of work that the database ends with this state, each time."""

    def work(connection: Connection) -> None:
        tries.append(len(tries))
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$"))

    return work


@pytest.mark.parametrize(
    ("sqlstate", "count"), [("23505", TRIES), ("40001", TRIES), ("40P01", TRIES), ("22012", 1), ("23503", 1), ("57014", 1), ("53100", 1)]
)
def test_only_a_collision_is_tried_again(postgresql: PostgreSQL, sqlstate: str, count: int) -> None:
    tries: list[int] = []
    with pytest.raises((DatabaseError, errors.ColonyError)):
        postgresql.write(failing(tries, sqlstate))
    assert len(tries) == count


def test_a_collision_that_passes_is_not_seen(postgresql: PostgreSQL) -> None:
    tries: list[int] = []
    collide = failing(tries, "40P01")

    def work(connection: Connection) -> str:
        if len(tries) < 2:
            collide(connection)
        return "done"

    assert postgresql.write(work) == "done"


def test_a_full_disk_of_postgresql_is_told_as_such(postgresql: PostgreSQL) -> None:
    with pytest.raises(errors.StorageFull):
        postgresql.write(failing([], "53100"))


def test_a_transaction_whose_fate_is_unknown_is_not_repeated(postgresql: PostgreSQL) -> None:
    tries: list[int] = []

    def cut_off(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(errors.Unavailable):
        postgresql.write(cut_off)
    assert len(tries) == 1
    assert postgresql.write(lambda connection: connection.execute(text("SELECT 5")).scalar()) == 5


def test_a_database_that_is_away_is_unavailable_and_no_crash(postgres: Postgres, clock: Clock) -> None:
    url = postgres.fresh()
    colony = Colony(url, clock)
    colony.post(colony.ann, "hello")
    postgres.drop(url)
    for token in (token_of("ann"), token_of("bob")):  # known already, and not yet
        with colony.http(token) as http:
            for answer in (http.get("/api/channels/general/messages"), http.post("/api/channels/general/messages", json={"body": "hi"})):
                assert problem(answer)["code"] == "unavailable"
                assert answer.status_code == 503
    colony.close()


def test_every_acknowledged_post_survives_kill_9(server: Server) -> None:
    acknowledged: list[int] = []
    mutex = threading.Lock()

    def post(thread: int) -> None:
        with server.client(token_of("ann")) as ann:
            for n in range(10_000):
                try:
                    said = ann.call(operations.POST, schema.PostMessage(channel="general", body=f"@scout {thread} {n}"))
                except errors.ColonyError:
                    return
                with mutex:
                    acknowledged.append(said.seq)

    for enough in (80,):
        with ThreadPoolExecutor(8) as pool:
            posters = [pool.submit(post, thread) for thread in range(8)]
            while len(acknowledged) < enough:
                assert not all(poster.done() for poster in posters), server.log()
            server.kill()
        assert not server.processes()
        server.start()
    with server.client(token_of("ann")) as ann, server.client(token_of("scout")) as scout:
        kept, since = [], 0
        while page := ann.call(operations.READ, schema.ReadMessages(channel="general", since=since, limit=500)).messages:
            kept += [message.seq for message in page]
            since = kept[-1]
        assert set(acknowledged) <= set(kept)
        assert kept == list(range(1, len(kept) + 1))
        assert len(scout.call(operations.INBOX, schema.ReadInbox(limit=500)).items) == min(500, len(kept))
    server.stop()
    with sqlite.connect(str(server.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM inbox").fetchone() == (len(kept),)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, in a mount of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size=2m,uid={os.geteuid()}", "tmpfs", folder)
    yield folder
    as_root("umount", folder)


@pytest.fixture
def cramped(small_disk: Path, clock: Clock) -> Iterator[Colony]:
    """A colony on the small disk."""
    url = sqlite_url(small_disk / "colony.db")
    database = open_database(url)
    database.write(settle_cast)
    database.close()
    colony = Colony(url, clock)
    yield colony
    colony.close()


def test_on_a_full_disk_a_post_is_refused_as_such_and_nothing_of_it_is_kept(cramped: Colony, small_disk: Path) -> None:
    kept: list[int] = []
    with suppress(errors.StorageFull):
        for _ in count():
            kept.append(cramped.post(cramped.ann, "@scout " + "x" * 60_000).seq)
            assert len(kept) < 60, "a disk of 2 MB is full by now"
    assert len(kept) > 2
    refused = 0
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(cramped.post, cramped.ann, "@scout " + "y" * 60_000) for _ in range(64)]:
            try:
                kept.append(future.result(20).seq)  # what was rolled back may have left room for one
            except errors.StorageFull:
                refused += 1
    assert refused
    assert cramped.audit()[-1] == ("post", "ann", "done", None)  # what little room is left is not for refusals
    assert [message.seq for message in cramped.read()] == sorted(kept) == list(range(1, len(kept) + 1))
    assert len(cramped.inbox(cramped.scout)) == len(kept)
    as_root("mount", "-o", "remount,size=20m", small_disk)
    assert cramped.post(cramped.ann, "room again").seq == len(kept) + 1
