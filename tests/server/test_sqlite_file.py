"""The file itself: one server on it, and clear words when it can't be used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite

from colony import config, errors, operations, schema
from server import access, settings
from server import sqlite_file as sqlite_file_module
from tests.colony_agent.agents import wait_for
from tests.server.cast import token_of
from tests.server.disks import ServerOn, disk, refused
from tests.server.serving import Server

PAGE = 4096


def colony_server(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("colony-server")
    return subprocess.run([str(script), "--home", str(home), *arguments], capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def server_on(database: Path) -> Iterator[Server]:
    server = ServerOn(database)
    try:
        yield server
    finally:
        server.close()


_MESSAGES = """WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
    INSERT INTO messages (channel_id, seq, author_id, body, type, created_at)
    SELECT 1, n, 1, printf('%.500c', 'x'), 'chat', 0 FROM numbers"""


def fill(path: Path, count: int) -> Path:
    """Give the file so many messages of half a kilobyte."""
    with closing(sqlite.connect(str(path))) as connection:
        connection.execute(_MESSAGES.format(count=count))
        connection.execute(f"UPDATE channels SET last_seq = {count} WHERE id = 1")
        connection.commit()
    return path


@pytest.fixture
def file(sqlite_file: Path, tmp_path: Path) -> Path:
    """A colony's file of half a megabyte."""
    return fill(shutil.copyfile(sqlite_file, tmp_path / "colony.db"), 1000)


def under(name: str) -> Callable[[Path, Path], Path]:
    """Another name of the file."""

    def make(database: Path, folder: Path) -> Path:
        other = folder / "other.db"
        if name == "itself":
            return database
        if name == "a symbolic link":
            other.symlink_to(database)
        else:
            os.link(database, other)
        return other

    return make


@pytest.mark.parametrize("name", ["itself", "a symbolic link", "a hard link"])
def test_a_second_server_on_one_file_is_refused_whatever_name_it_is_given(server: Server, name: str) -> None:
    with server_on(under(name)(server.database, server.home)) as second:
        code, words = refused(second)
    assert code == errors.Unavailable.exit_code
    assert words.count("\n") == 1
    assert "a server is running on" in words
    assert server.answers(server.url)


def test_the_file_is_free_once_its_server_has_ended_however_that_was(server: Server) -> None:
    assert server.process
    server.process.send_signal(signal.SIGKILL)  # the master alone; its worker follows by itself
    with server_on(server.database) as next_one:
        next_one.start()
    server.process.wait(10)


def test_a_worker_that_is_replaced_keeps_the_file(server: Server) -> None:
    worker = server.processes()[1]
    worker.kill()
    wait_for(lambda: server.answers(server.url) and server.processes()[1].pid != worker.pid, "new worker")
    with server_on(server.database) as second:
        assert "a server is running on" in refused(second)[1]


def test_commands_may_run_beside_a_server(server: Server, tmp_path: Path) -> None:
    backups = str(tmp_path / "backups")
    for command in (["user", "add", "zoe"], ["token", "zoe"], ["migrate"], ["check"], ["prune"], ["backup", backups]):
        ran = colony_server(server.home, *command)
        assert (ran.returncode, ran.stderr) == (0, ""), command
    assert server.answers(server.url)


def test_a_schema_is_not_changed_under_a_running_server(server: Server) -> None:
    with closing(sqlite.connect(str(server.database))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    ran = colony_server(server.home, "migrate")
    assert ran.returncode == errors.Unavailable.exit_code
    assert "a server is running on" in ran.stderr
    assert ran.stderr.count("\n") == 1


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // PAGE // 2 * PAGE)


def holed(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // PAGE // 2 * PAGE)
        file.write(b"\xff" * 3 * PAGE)


def beheaded(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def a_letter(path: Path) -> None:
    path.write_text("this is a letter, not a database. " * 100)


@pytest.mark.parametrize("harm", [truncated, holed, beheaded, a_letter])
def test_a_damaged_file_is_refused_in_one_line_with_a_remedy(file: Path, harm: Callable[[Path], None]) -> None:
    harm(file)
    with server_on(file) as server:
        code, words = refused(server)
    assert code == errors.StorageDamaged.exit_code
    assert words.count("\n") == 1
    assert str(file) in words
    assert "colony-server restore FILE --force" in words
    ran = colony_server(file.parent, "check")
    assert ran.returncode == errors.StorageDamaged.exit_code
    assert ran.stdout
    assert "Traceback" not in ran.stderr


def test_the_look_at_a_file_takes_no_longer_than_it_may(sqlite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(shutil.copyfile(sqlite_file, tmp_path / "colony.db"), 40_000)
    holed(path)
    monkeypatch.setattr(sqlite_file_module, "LOOK_SECONDS", 100.0)
    with pytest.raises(errors.StorageDamaged):
        sqlite_file_module.require_usable(path)
    monkeypatch.setattr(sqlite_file_module, "LOOK_SECONDS", -1.0)
    sqlite_file_module.require_usable(path)


def test_a_file_on_a_read_only_disk_is_refused_in_one_line(file: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as mounted:
        path = shutil.copyfile(file, mounted.path / "colony.db")
        mounted.remount("ro")
        for database in (path, mounted.path / "new.db"):
            with server_on(database) as server:
                code, words = refused(server)
            assert code == errors.Unavailable.exit_code
            assert words.count("\n") == 1
            assert "read-only" in words.lower()


@pytest.mark.parametrize("command", [["check"], ["prune"], ["user", "add", "zoe"], ["token", "ann"], ["backup", "backups"]])
def test_a_command_makes_no_database_where_there_is_none(tmp_path: Path, command: list[str]) -> None:
    ran = colony_server(tmp_path / "nowhere", *command)
    assert ran.returncode == errors.NotFound.exit_code
    assert ran.stderr == f"colony-server: there is no {tmp_path / 'nowhere' / 'colony.db'}; name the colony's data folder with --home\n"
    assert not (tmp_path / "nowhere").exists()


def test_on_a_host_who_is_not_root_is_told_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.toml").touch()
    monkeypatch.setattr(settings, "HOST_FILE", tmp_path / "server.toml")
    for is_root, ends in ((False, f"; {tmp_path} is root's: try sudo"), (True, "--home")):
        monkeypatch.setattr(config, "keeps_host", lambda is_root=is_root: is_root)
        with pytest.raises(errors.NotFound) as refused:
            access.require_there(tmp_path / "colony.db")
        assert refused.value.detail.endswith(ends)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "colony.db").mkdir()
    with server_on(tmp_path / "colony.db") as server:
        code, words = refused(server)
    assert code == errors.Unavailable.exit_code
    assert words.count("\n") == 1


def test_damage_that_shows_while_it_runs_is_told_and_ends_nothing(file: Path) -> None:
    with server_on(file) as server:
        server.start()
        before = [process.pid for process in server.processes()]
        holed(file)
        with server.client(token_of("ann")) as ann:
            everything = schema.ReadMessages(channel="general", since=0, limit=500)
            with pytest.raises(errors.StorageDamaged) as told:
                ann.call(operations.READ, everything)
            assert told.value.detail == errors.StorageDamaged().detail
            newest = ann.call(operations.READ, schema.ReadMessages(channel="general", limit=5))
            assert newest.last_seq == 1000  # what is sound is served
        assert [process.pid for process in server.processes()] == before
        assert "storage_damaged" in server.log()
        assert "Traceback" not in server.log()
