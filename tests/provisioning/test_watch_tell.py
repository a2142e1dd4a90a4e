"""#ops hears of each trouble once, and once when it is over."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from colony import errors, operations, schema
from provisioning import places
from provisioning.watch import tell
from provisioning.watch.look import Trouble
from tests.server.serving import Server

DISK = Trouble("disk", "The disk is nearly full.", "The disk has room again.")
NEARLY = Trouble("disk", "The disk is nearly full.", "The disk has room again.", is_sure=False)
HOME = Trouble("home:scout", "The home of scout holds too much.", "It is within its bound again.", pauses="scout")
UNIT = Trouble("unit", "A unit has failed.", "The unit is well again.")


def said(server: Server) -> list[str]:
    with server.client(over_socket=True) as admin:
        if tell.OPS not in {channel.name for channel in admin.call(operations.CHANNELS, schema.ListChannels()).channels}:
            return []
        return [message.body for message in admin.call(operations.READ, schema.ReadMessages(channel=tell.OPS, limit=50)).messages]


def tell_of(server: Server, folder: Path, *troubles: Trouble) -> list[str]:
    tell.tell(troubles, folder, server.url)
    return said(server)


def test_each_trouble_is_told_once_and_its_end_once(server: Server, tmp_path: Path) -> None:
    assert tell_of(server, tmp_path) == []
    assert tell_of(server, tmp_path, DISK) == [DISK.says]
    assert tell_of(server, tmp_path, DISK, UNIT) == [DISK.says, UNIT.says]
    assert tell_of(server, tmp_path, UNIT)[2:] == [DISK.relief]
    assert tell_of(server, tmp_path, UNIT)[3:] == []
    assert tell_of(server, tmp_path)[3:] == [UNIT.relief]
    assert tell_of(server, tmp_path, DISK)[4:] == [DISK.says], "the second time it is news again"


def test_what_is_only_nearly_wrong_begins_and_ends_nothing(server: Server, tmp_path: Path) -> None:
    assert tell_of(server, tmp_path, NEARLY) == []
    assert tell_of(server, tmp_path, DISK) == [DISK.says]
    assert tell_of(server, tmp_path, NEARLY) == [DISK.says]
    assert tell_of(server, tmp_path) == [DISK.says, DISK.relief]


def status(server: Server) -> tuple[str, str]:
    with server.client(over_socket=True) as admin:
        [scout] = [agent for agent in admin.call(operations.AGENTS, schema.ListAgents()).agents if agent.username == "scout"]
    return scout.status, scout.status_note


def set_status(server: Server, status: schema.Status) -> None:
    with server.client(over_socket=True) as admin:
        admin.call(operations.SET_STATUS, schema.SetStatus(agent="scout", status=status))


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scout lives on this host."""
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    (tmp_path / "scout.toml").touch()
    return tmp_path


def test_whoever_is_paused_for_a_trouble_is_so_once_and_whoever_resumes_it_has_the_last_word(server: Server, records: Path) -> None:
    assert tell_of(server, records, HOME) == [HOME.says]
    assert status(server) == ("paused", HOME.says)
    set_status(server, "healthy")
    assert tell_of(server, records, HOME) == [HOME.says]
    assert status(server)[0] == "healthy"
    assert tell_of(server, records) == [HOME.says, HOME.relief]
    assert tell_of(server, records, HOME)[2:] == [HOME.says]
    assert status(server)[0] == "paused", "it was well in between"


def test_what_was_not_looked_at_is_not_over(server: Server, records: Path) -> None:
    tell_of(server, records, HOME, UNIT)
    set_status(server, "healthy")
    tell.tell([], records, server.url, unseen=("home:",))
    assert said(server) == [HOME.says, UNIT.says, UNIT.relief]
    assert tell_of(server, records, HOME)[3:] == []
    assert status(server)[0] == "healthy", "whoever resumed it has the last word after a reboot, too"
    assert tell_of(server, records)[3:] == [HOME.relief]


def test_who_is_well_again_before_the_colony_hears_of_it_is_not_paused(server: Server, records: Path) -> None:
    server.stop()
    tell.tell([HOME], records, server.url)
    tell.tell([], records, server.url)
    server.start()
    assert tell_of(server, records) == [HOME.says, HOME.relief]
    assert status(server)[0] == "healthy"


@pytest.mark.parametrize("is_here", [True, False], ids=["a dying agent", "a dead agent"])
def test_who_dies_is_not_paused_and_its_end_is_no_relief(server: Server, records: Path, is_here: bool) -> None:
    set_status(server, "draining")
    assert tell_of(server, records, HOME) == [HOME.says]
    assert status(server)[0] == "draining"
    if not is_here:
        (records / "scout.toml").unlink()
    assert tell_of(server, records)[1:] == ([HOME.relief] if is_here else [])


def test_what_a_server_that_is_away_can_t_be_told_it_is_told_later(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    tell.tell([UNIT], tmp_path, server.url)
    tell.tell([UNIT, DISK], tmp_path, server.url)
    tell.tell([DISK], tmp_path, server.url)
    monkeypatch.undo()
    server.start()
    assert tell_of(server, tmp_path, DISK) == [f"1970-01-01 00:00 UTC: {text}" for text in (UNIT.says, DISK.says, UNIT.relief)]
    assert len(tell_of(server, tmp_path, DISK)) == 3


def test_killed_before_it_is_noted_that_it_was_said_it_is_not_said_twice(server: Server, tmp_path: Path) -> None:
    tell_of(server, tmp_path)
    child = os.fork()
    if child == 0:
        write = tell._write
        written: list[tell.Known] = []

        def dying(folder: Path, known: tell.Known) -> None:
            if written:
                os._exit(137)
            write(folder, known)
            written.append(known)

        tell._write = dying
        tell.tell([UNIT], tmp_path, server.url)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137
    assert said(server) == [UNIT.says]
    assert tell_of(server, tmp_path, UNIT) == [UNIT.says]


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"troubles": 1}', '{"unsaid": [{"a": 1}]}'])
def test_notes_that_can_t_be_read_begin_anew(server: Server, tmp_path: Path, text: str) -> None:
    (tmp_path / tell.FILE).write_text(text)
    assert tell_of(server, tmp_path, UNIT) == [UNIT.says]


def test_what_could_not_be_said_for_long_is_bounded(tmp_path: Path) -> None:
    known = tell.Known()
    for number in range(300):
        known = tell.noted(known, [Trouble(str(number), "wrong", "right")], float(number))
    assert len(known.unsaid) == tell.MAX_UNSAID
    assert known.unsaid[-1].text == "right"


def test_what_can_not_be_noted_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match=f"^can't write {tmp_path}/gone/watch.json: No such file or directory$"):
        tell.tell([UNIT], tmp_path / "gone", "unix:/nowhere")
