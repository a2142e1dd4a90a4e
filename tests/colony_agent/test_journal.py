"""What the journal gets from an agent's processes, read at a socket as its own is."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from colony_agent import journal
from colony_agent.journal import MAX_VALUE_BYTES, JournalHandler, datagram
from tests.colony_agent.agents import BIN, Agent, House, wait_for

TURN = """
import sys
from pathlib import Path
from colony_agent import entry, settings, turn
entry.ended(lambda: turn.run(settings.load(Path(sys.argv[1])), sys.argv[3]), journal_socket=sys.argv[2])
"""


class Journal:
    """A socket that takes what journald would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def entries(self) -> Iterator[dict[str, str]]:
        """What has come since the last time."""
        while True:
            try:
                yield parsed(self._socket.recv(2**20))
            except BlockingIOError:
                return

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


def parsed(received: bytes) -> dict[str, str]:
    """As the description of the protocol says."""
    fields = {}
    while received:
        line, _, rest = received.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode(errors="replace")
        received = rest
    return fields


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    if journal.path.exists():
        journal.close()


class Fallen(logging.Handler):
    """Where records go that the journal doesn't take."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def fallen() -> Fallen:
    return Fallen()


@pytest.fixture
def handler(taken: Journal, fallen: Fallen) -> Iterator[JournalHandler]:
    handler = JournalHandler(fallen, str(taken.path))
    yield handler
    handler.close()


def say(handler: JournalHandler, level: int, message: str, *arguments: object, exc_info: object = None) -> None:
    handler.handle(logging.LogRecord("colony_agent.turn", level, "turn.py", 1, message, arguments, exc_info))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, "7"), (logging.INFO, "6"), (logging.WARNING, "4"), (35, "4"), (logging.ERROR, "3"), (logging.CRITICAL, "2")],
)
def test_a_record_is_an_entry_with_fields(handler: JournalHandler, taken: Journal, level: int, priority: str) -> None:
    say(handler, level, "turn begins turn=%s", "7.1")
    expected = {"MESSAGE": "turn begins turn=7.1", "PRIORITY": priority, "SYSLOG_IDENTIFIER": "colony-agent", "LOGGER": "colony_agent.turn"}
    assert list(taken.entries()) == [expected]


def test_marks_are_in_every_entry_from_then_on(handler: JournalHandler, taken: Journal) -> None:
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        journal.mark(agent="scout", channel=None)
        root.warning("one")
        journal.mark(turn=7, channel="general")
        root.warning("two")
    finally:
        root.removeHandler(handler)
    marks = [{name: value for name, value in entry.items() if name.startswith("COLONY_")} for entry in taken.entries()]
    assert marks == [{"COLONY_AGENT": "scout"}, {"COLONY_AGENT": "scout", "COLONY_TURN": "7", "COLONY_CHANNEL": "general"}]


def test_lines_and_tracebacks_are_one_entry(handler: JournalHandler, taken: Journal) -> None:
    try:
        raise ValueError("no\nPRIORITY=0")
    except ValueError:
        say(handler, logging.ERROR, "turn broke\nMESSAGE=forged", exc_info=sys.exc_info())
    (entry,) = taken.entries()
    assert entry["MESSAGE"].startswith("turn broke\nMESSAGE=forged\nTraceback")
    assert entry["MESSAGE"].endswith("ValueError: no\nPRIORITY=0")
    assert entry["PRIORITY"] == "3"


@pytest.mark.parametrize("value", ["", "=", "a\n", "\n", "a\0b", "é☃", "\ud800"])
def test_any_text_travels_whole(value: str) -> None:
    assert parsed(datagram({"ONE": value, "TWO": "2"})) == {"ONE": value.replace("\ud800", "\\ud800"), "TWO": "2"}


@pytest.mark.parametrize("letter", ["x", "é", "x\n"])
def test_a_message_longer_than_a_datagram_is_cut(handler: JournalHandler, taken: Journal, letter: str) -> None:
    say(handler, logging.INFO, letter * 2**20)
    (entry,) = taken.entries()
    assert len(entry["MESSAGE"].encode()) == MAX_VALUE_BYTES
    assert entry["PRIORITY"] == "6"


def test_what_a_journal_does_not_take_goes_to_stderr(handler: JournalHandler, taken: Journal, fallen: Fallen) -> None:
    taken.close()
    say(handler, logging.INFO, "one")
    back = Journal(taken.path)
    say(handler, logging.INFO, "two")
    assert [entry["MESSAGE"] for entry in back.entries()] == ["two"]
    back.close()
    assert fallen.said == ["one"]


def test_a_journal_that_hangs_holds_nobody_up_for_long(handler: JournalHandler, taken: Journal, fallen: Fallen) -> None:
    number = 0
    while not fallen.said:  # its queue is full at some time
        number += 1
        say(handler, logging.INFO, "entry %d", number)
        assert number < 10_000
    assert fallen.said == [f"entry {number}"]
    assert len(list(taken.entries())) == number - 1


def test_arguments_that_do_not_fit_harm_nobody(handler: JournalHandler, taken: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    say(handler, logging.INFO, "%d", "seven")
    assert list(taken.entries()) == []
    assert "Logging error" in capsys.readouterr().err


# As the agent's processes do it


def run(scout: Agent, taken: Journal, kind: str, is_journal: bool = True) -> tuple[int, str]:
    """The exit code of a turn and its stderr, which is said to be the journal's."""
    log = scout.home.with_suffix(".stderr")
    with log.open("w") as stderr:
        facts = os.fstat(stderr.fileno())
        env = {"PATH": os.environ["PATH"], "JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino if is_journal else 1}"}
        argv = [sys.executable, "-I", "-c", TURN, str(scout.home), str(taken.path), kind]
        code = subprocess.run(argv, env=env, stderr=stderr, timeout=60).returncode
    return code, log.read_text()


def test_a_turn_tells_the_journal_whose_it_is_and_where(scout: Agent, taken: Journal) -> None:
    scout.ask()
    assert run(scout, taken, "answer") == (0, "")
    entries = list(taken.entries())
    turn = {"COLONY_AGENT": scout.name, "COLONY_TURN": str(scout.turns()[0].id), "COLONY_CHANNEL": scout.name}
    assert [entry["MESSAGE"].split(" turn=")[0] for entry in entries] == ["turn begins", "progress", "turn done"]
    assert all(turn.items() <= entry.items() for entry in entries)


def test_a_dream_has_no_channel_and_its_failure_is_a_warning(house: House, scout: Agent, taken: Journal) -> None:
    scout.settle("exit 3")
    assert run(scout, taken, "dream") == (10, "")
    entries = list(taken.entries())
    assert {entry.get("COLONY_CHANNEL") for entry in entries} == {None}
    assert {entry["COLONY_TURN"] for entry in entries} == {str(scout.turns()[0].id)}
    assert [entry["MESSAGE"].split(" turn=")[0] for entry in entries if entry["PRIORITY"] == "4"] == ["turn failed"]


def test_a_turn_that_does_nothing_says_so(scout: Agent, taken: Journal) -> None:
    assert run(scout, taken, "answer") == (75, "")
    (entry,) = taken.entries()
    assert (entry["MESSAGE"], entry["COLONY_AGENT"], "COLONY_TURN" in entry) == ("no turn: nothing is due", scout.name, False)


def test_the_last_words_of_a_process_are_a_line_that_the_journal_can_not_miss(scout: Agent, taken: Journal) -> None:
    scout.settle(url="unix:/nonexistent/api.sock")
    code, said = run(scout, taken, "answer")
    assert (code, said.count("\n")) == (8, 1)
    assert said.startswith("<3>colony-agent: no colony at unix:/nonexistent/api.sock")


def test_outside_of_the_journal_all_is_lines_on_stderr(scout: Agent, taken: Journal) -> None:
    scout.ask()
    code, said = run(scout, taken, "answer", is_journal=False)
    assert (code, list(taken.entries())) == (0, [])
    assert "I colony_agent.turn turn begins turn=" in said


@pytest.mark.parametrize("is_journal", [True, False])
def test_a_worker_says_how_grave_its_lines_are_if_the_journal_reads_them(scout: Agent, is_journal: bool) -> None:
    scout.settle(url="unix:/nonexistent/api.sock")
    log = scout.home.with_suffix(".stderr")
    with log.open("w") as stderr:
        facts = os.fstat(stderr.fileno())
        env = {"PATH": os.environ["PATH"], "JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino if is_journal else 1}"}
        with subprocess.Popen([BIN / "colony-agent", "worker", "--home", scout.home], env=env, stderr=stderr) as worker:
            try:
                wait_for(lambda: "server unreachable" in log.read_text(), "complaint", more=log.read_text)
            finally:
                worker.terminate()
                worker.wait(30)
    ready, unreachable, ends = ("<6>", "<4>", "<6>") if is_journal else ("", "", "")
    lines = log.read_text().splitlines()
    assert lines[0].startswith(f"{ready}worker ready agent={scout.name} pid=")
    assert lines[1].startswith(f"{unreachable}server unreachable agent={scout.name} error=")
    assert lines[-1] == f"{ends}worker ends agent={scout.name}"
