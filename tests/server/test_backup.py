"""Backups: made under load, checked, put back; and what a restore means to those who have gone on since."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2 as sqlite

from colony import errors, operations, schema
from server import backup, migrations, soundness
from server.database import open_database, sqlite_url
from server.models.base import now
from server.models.message import messages
from tests.colony_agent.agents import House, wait_for
from tests.server.cast import token_of
from tests.server.disks import disk
from tests.server.postgres import Postgres
from tests.server.serving import Server
from tests.server.support import NOON, Clock, Colony

BIN = Path(sys.executable).parent


def colony_server(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "colony-server", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100)


def done(*arguments: str | Path) -> str:
    ran = colony_server(*arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def refusal(kind: type[errors.ColonyError], *arguments: str | Path) -> str:
    """The one line of a command that is refused like this."""
    ran = colony_server(*arguments)
    assert ran.returncode == kind.exit_code, ran.stderr
    assert ran.stderr.count("\n") == 1
    return ran.stderr


def stored(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return list(connection.execute(query))


@pytest.fixture
def file(sqlite_file: Path, tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return shutil.copyfile(sqlite_file, tmp_path / "home" / "colony.db")


class Load:
    """People who post until they are stopped; `acknowledged` holds what the server has said it keeps."""

    def __init__(self, server: Server, count: int = 4) -> None:
        self.acknowledged: list[schema.Message] = []
        self._server, self._stop, self._pool = server, threading.Event(), ThreadPoolExecutor(count)
        self._posting = [self._pool.submit(self._post, number) for number in range(count)]

    def _post(self, number: int) -> None:
        with self._server.client(token_of("ann")) as ann:
            while not self._stop.is_set():
                try:
                    said = ann.call(operations.POST, schema.PostMessage(channel="general", body=f"@scout {number} " + "x" * 1000))
                except errors.Unavailable:
                    return
                self.acknowledged.append(said)

    def await_more(self, count: int) -> None:
        enough = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= enough, f"{count} more posts", 60, self._server.log)

    def end(self) -> None:
        self._stop.set()
        for posting in self._posting:
            posting.result(60)
        self._pool.shutdown()


def test_the_drill_backup_under_load_kill_restore(server: Server, tmp_path: Path) -> None:
    load = Load(server)
    load.await_more(100)
    before = list(load.acknowledged)
    said = done("--home", server.home, "backup", tmp_path / "backups")
    load.await_more(20)
    server.kill()
    load.end()
    (made,) = (tmp_path / "backups").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert re.fullmatch(rf"{made}: \d+ rows, [\d.]+ MB in [\d.]+ s \(\d+ MB/s\), checked\n", said)
    restored = done("--home", server.home, "restore", made, "--force")
    print(f"\ndrill: {said}{restored}")
    (aside,) = server.home.glob("colony.db.until-*")
    assert len(stored(aside, "SELECT 1 FROM messages")) >= len(load.acknowledged)  # nothing is thrown away
    server.start()
    kept = {id: (seq, body) for id, seq, body in stored(server.database, "SELECT id, seq, body FROM messages WHERE channel_id = 1")}
    assert {each.id: (each.seq, each.body) for each in before}.items() <= kept.items()
    assert sorted(seq for seq, _ in kept.values()) == list(range(1, len(kept) + 1))
    seq, notice = kept[max(kept)]
    assert f"restored from the backup {made.name}" in notice
    assert f"after #{seq - 1} is gone" in notice
    server.stop()
    assert soundness.examine(sqlite_url(server.database)).findings == []


def test_a_backup_needs_no_server_and_old_ones_are_deleted(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    for _ in range(2):
        done("--home", file.parent, "backup", folder)
    (folder / "letter.db").write_text("not a backup")
    (folder / ".colony.partial").write_text("half a backup of one that was killed")
    oldest, second = sorted(folder.glob("colony-*"))
    assert "1 older deleted" in done("--home", file.parent, "backup", folder, "--keep", "2")
    left = sorted(path.name for path in folder.iterdir())
    assert oldest.name not in left
    assert left[0] == second.name
    assert left[2] == "letter.db"
    assert len(left) == 3


def test_a_backup_that_finds_no_room_leaves_nothing_behind(file: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=0.1) as small:
        assert "is full" in refusal(errors.StorageFull, "--home", file.parent, "backup", small.path)
        assert list(small.path.iterdir()) == []


def test_a_damaged_database_makes_no_backup_and_a_damaged_backup_is_not_restored(file: Path, tmp_path: Path) -> None:
    good = backup.make(file, tmp_path / "backups", None, now()).path
    bad = shutil.copyfile(good, tmp_path / "bad.db")
    with bad.open("r+b") as broken:
        broken.seek(bad.stat().st_size // 2)
        broken.write(b"\xff" * 8192)
    whole = file.read_bytes()
    refusal(errors.StorageDamaged, "--home", file.parent, "restore", bad, "--force")
    assert file.read_bytes() == whole
    assert sorted(path.name for path in file.parent.iterdir()) == ["colony.db"]
    shutil.copyfile(bad, file)
    refusal(errors.StorageDamaged, "--home", file.parent, "backup", tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == [good]
    done("--home", file.parent, "restore", good, "--force")  # also over a damaged one
    assert soundness.examine(sqlite_url(file)).findings == []


def test_what_is_no_colony_is_not_restored(file: Path, tmp_path: Path) -> None:
    with closing(sqlite.connect(str(tmp_path / "other.db"))) as connection:
        connection.execute("CREATE TABLE songs (id INTEGER PRIMARY KEY)")
    assert "no colony's" in refusal(errors.Invalid, "--home", file.parent, "restore", tmp_path / "other.db", "--force")
    (tmp_path / "letter").write_text("a letter")
    assert "not a database" in refusal(errors.StorageDamaged, "--home", file.parent, "restore", tmp_path / "letter", "--force")
    assert "there is no" in refusal(errors.NotFound, "--home", file.parent, "restore", tmp_path / "nothing", "--force")
    with closing(sqlite.connect(str(file))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert "newer than this code" in refusal(errors.Invalid, "--home", tmp_path / "new", "restore", file)


def test_a_restore_never_overwrites_unasked_nor_under_a_server(server: Server, tmp_path: Path) -> None:
    made = backup.make(server.database, tmp_path / "backups", None, now()).path
    assert "a server is running" in refusal(errors.Unavailable, "--home", server.home, "restore", made, "--force")
    assert server.answers(server.url)
    server.stop()
    assert "--force" in refusal(errors.Conflict, "--home", server.home, "restore", made)
    with closing(sqlite.connect(str(server.database))) as connection:  # somebody else has it open
        connection.execute("SELECT count(*) FROM users").fetchone()
        assert "locked" in refusal(errors.Unavailable, "--home", server.home, "restore", made, "--force")
    done("--home", server.home, "restore", made, "--force")
    done("--home", tmp_path / "elsewhere", "restore", made)
    server.start()


def test_a_restore_leaves_a_link_to_the_database_a_link(file: Path, tmp_path: Path) -> None:
    made = backup.make(file, tmp_path / "backups", None, now()).path
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "colony.db").symlink_to(file)
    before = file.stat().st_ino
    done("--home", tmp_path / "linked", "restore", made, "--force")
    assert (tmp_path / "linked" / "colony.db").is_symlink()
    assert file.stat().st_ino != before


def test_a_backup_of_an_older_colony_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "HEAD", "0001")
    old = open_database(sqlite_url(tmp_path / "old.db"))
    old.write(migrations.upgrade)
    old.close()
    done("--home", tmp_path / "home", "restore", tmp_path / "old.db")
    assert "sound" in done("--home", tmp_path / "home", "check")


# --- what a restore means


@pytest.fixture
def house(server: Server) -> Iterator[House]:
    house = House(server)
    yield house
    house.close()


def test_what_waited_at_the_backup_is_answered_again_once(house: House, server: Server, tmp_path: Path) -> None:
    agent = house.agent(tmp_path, sandbox="none")
    agent.ask("first")
    agent.turn()
    agent.ask("second")
    made = backup.make(server.database, tmp_path / "backups", None, now()).path
    agent.turn()
    agent.ask("third, which will be gone")
    agent.turn()
    assert (agent.runs(), len(agent.said())) == (3, 3)
    server.stop()
    done("--home", server.home, "restore", made, "--force")
    server.start()
    assert len(agent.said()) == 1
    for _ in range(3):
        agent.turn()
    assert (agent.runs(), len(agent.said())) == (4, 2)
    assert agent.outcomes() == ["answered"] * 2
    agent.ask("a number that has been used before")
    agent.turn()
    assert len(agent.said()) == 3
    assert "which will be gone" not in "".join(message.body for message in agent.messages())


def test_turns_from_after_the_backup_have_no_voice_and_that_from_before_it_has_its_own(
    sqlite_file: Path, tmp_path: Path, clock: Clock
) -> None:
    file = shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    colony = Colony(sqlite_url(file), clock)
    colony.post(colony.ann, "@scout one")
    running = colony.turn(colony.scout)
    made = backup.make(file, tmp_path / "backups", None, NOON).path
    colony.finish(running, "done")
    colony.post(colony.ann, "@scout two")
    later = colony.turn(colony.scout)
    assert later.id != running.id
    colony.close()
    backup.restore(made, file, NOON)
    colony = Colony(sqlite_url(file), clock)
    colony.post(colony.ann, "@rook three")
    with pytest.raises(errors.StaleTurn):
        colony.finish(later, "from a time that is no more")
    assert colony.finish(running, "done").state == "finished"  # the journal of before is still worth its words
    assert colony.turn(colony.rook).id == later.id  # the number is given again,
    with pytest.raises(errors.StaleTurn):
        colony.finish(later, "from a time that is no more")  # but not to the same agent's voice
    assert [each.body for each in colony.rows(messages) if each.turn_id] == ["done"]
    colony.close()


def test_an_approval_that_was_used_after_the_backup_counts_for_nothing_more(sqlite_file: Path, tmp_path: Path, clock: Clock) -> None:
    file = shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    colony = Colony(sqlite_url(file), clock)
    row = schema.SetAcl(principal="scout", action="post", scope="channel:general", effect="hold")
    colony.admin.call(operations.SET_ACL, row)
    with pytest.raises(errors.Held):
        colony.post(colony.scout, "sell it")
    [asked] = colony.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals
    colony.ann.call(operations.APPROVE, schema.Approve(id=asked.id))
    made = backup.make(file, tmp_path / "backups", None, NOON).path
    colony.post(colony.scout, "sell it")
    colony.close()
    backup.restore(made, file, NOON)
    colony = Colony(sqlite_url(file), clock)
    with pytest.raises(errors.Held):
        colony.post(colony.scout, "sell it")
    assert [each.body for each in colony.read() if each.author == "scout"] == []
    colony.close()


def test_who_follows_a_channel_through_a_restore_hears_of_it(colony: Colony) -> None:
    colony.post(colony.ann, "only this was in the backup")
    ahead = schema.ReadMessages(channel="general", since=100, wait=20)
    assert colony.ann.call(operations.READ, ahead).last_seq == 1  # at once


@pytest.mark.parametrize("is_lost", [False, True], ids=["the file before is there", "the file before is lost"])
def test_who_follows_the_events_through_a_restore_misses_nothing(sqlite_file: Path, tmp_path: Path, clock: Clock, is_lost: bool) -> None:
    file = shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    colony = Colony(sqlite_url(file), clock)
    colony.open_channel("garden")
    colony.post(colony.ann, "one")
    made = backup.make(file, tmp_path / "backups", None, NOON).path
    for number in range(3):
        colony.post(colony.ann, f"gone {number}")
    position = colony.ann.call(operations.EVENTS, schema.ListEvents()).position
    colony.close()
    if is_lost:
        file.write_bytes(b"")
    assert (backup.restore(made, file, NOON) is None) == is_lost

    colony = Colony(sqlite_url(file), clock)
    colony.post(colony.ann, "two")
    said = colony.ann.call(operations.EVENTS, schema.ListEvents(since=position))
    notice, newest = [each.message for each in said.events if each.message]
    assert "was restored from the backup" in notice.body
    assert (newest.body, newest.seq) == ("two", 3)
    assert newest.id > notice.id > 1_000_000
    assert [each.deed.operation for each in said.events if each.deed] == ["restore"]
    deeds = [each.deed.operation for each in colony.ann.call(operations.EVENTS, schema.ListEvents()).events if each.deed]
    assert deeds == ["create_channel", "restore"]  # what was done before is shown, too
    colony.close()
    assert "sound" in done("--database", sqlite_url(file), "check")


def test_after_the_restore_of_a_colony_where_nobody_had_spoken_ids_go_on_as_well(sqlite_file: Path, tmp_path: Path, clock: Clock) -> None:
    file = shutil.copyfile(sqlite_file, tmp_path / "colony.db")
    made = backup.make(file, tmp_path / "backups", None, NOON).path
    colony = Colony(sqlite_url(file), clock)
    for number in range(5):
        colony.post(colony.ann, f"gone {number}")
    position = colony.ann.call(operations.EVENTS, schema.ListEvents()).position
    colony.close()
    backup.restore(made, file, NOON)
    colony = Colony(sqlite_url(file), clock)
    colony.post(colony.ann, "one")
    said = colony.ann.call(operations.EVENTS, schema.ListEvents(since=position)).events
    assert [each.message.body for each in said if each.message][-1] == "one"
    colony.close()


# --- PostgreSQL


def test_on_postgresql_the_commands_that_it_names_do_it(postgres: Postgres, tmp_path: Path) -> None:
    url, fresh = postgres.fresh(), postgres.create("restored")
    folder = tmp_path / "backups"
    folder.mkdir()
    for command in (("backup", folder), ("restore", folder / "colony.dump")):
        line = refusal(errors.Invalid, "--database", url if command[0] == "backup" else fresh, *command)
        named = line.split(": ", 2)[2]
        ran = subprocess.run(named, shell=True, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
    assert "5 users, 2 channels" in done("--database", fresh, "check")
    postgres.drop(url)
    postgres.drop(fresh)
