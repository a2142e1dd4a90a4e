"""The worker as a real process, against the real server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from colony_agent.turn import Exit
from tests.colony_agent.agents import Agent, House, Process, living, wait_for
from tests.colony_agent.cast import new_mark, running
from tests.colony_agent.relay import Relay

SOON = 5.0  # what takes milliseconds; whoever only polls needs 25 s
# From the standard library, and nothing of it that is large.
IMPORTED = {
    *("__future__", "_collections_abc", "_frozen_importlib_external", "_weakrefset", "abc", "array", "codecs", "collections", "copyreg"),
    *("encodings", "enum", "functools", "genericpath", "io", "json", "keyword", "math", "operator", "os", "posixpath", "re", "reprlib"),
    *("select", "selectors", "signal", "socket", "stat", "types", "zipimport"),
}
C_PARTS = {"_json", "_socket"}
WAITS_FOR_GO = "echo run >> runs; while [ ! -e go ]; do sleep 0.02; done; echo answered"
MIB = 1024 * 1024


def idle(worker: Process) -> None:
    """Wait until it holds its long poll."""
    worker.await_log("status=healthy")
    time.sleep(0.3)


def sleeps_first(mark: str) -> str:
    """A brain that hangs when it runs first, and answers when it runs again."""
    return f"echo run >> runs; [ $(wc -l < runs) -gt 1 ] || sleep {mark}; echo answered"


# Idle


def test_it_imports_next_to_nothing(scout: Agent) -> None:
    with scout.worker(python=("-X", "importtime")) as worker:
        idle(worker)
        imported = {line.rpartition("|")[2].strip() for line in worker.log().splitlines() if line.startswith("import time:")}
    whole = {name.partition(".")[0] for name in imported} - {"imported package", *sys.builtin_module_names, *C_PARTS}
    assert "json" in whole
    assert whole <= IMPORTED


@pytest.mark.parametrize("over", ["url", "http_url"])
def test_it_stays_within_its_memory_and_runs_nothing(house: House, scout: Agent, over: str) -> None:
    scout.settle(url=getattr(house.server, over))
    with scout.worker() as worker:
        idle(worker)
        fields = dict(line.split(":") for line in Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()[1:])
        figures = {name: int(value.split()[0]) * 1024 for name, value in fields.items()}
        unique = figures["Private_Clean"] + figures["Private_Dirty"]
        print(f"idle worker over {over}: RSS {figures['Rss'] / MIB:.1f} MiB, unique {unique / MIB:.1f} MiB")
        assert figures["Rss"] <= 12 * MIB
        assert unique <= 5 * MIB
        assert worker.family() == []
    assert scout.turns() == []


def test_it_reports_that_it_lives(scout: Agent) -> None:
    assert scout.seen.last_seen_at is None
    with scout.worker() as worker:
        idle(worker)
        first = scout.seen.last_seen_at
        assert first is not None
        scout.set_status("paused")
        wait_for(lambda: (scout.seen.last_seen_at or first) > first, "newer heartbeat", SOON)


# Mentions


@pytest.mark.parametrize("over", ["url", "http_url"])
def test_a_mention_is_answered(house: House, scout: Agent, over: str) -> None:
    scout.settle(url=getattr(house.server, over))
    with scout.worker() as worker:
        idle(worker)
        asked = scout.ask()
        assert scout.await_said() == ["answered"]
        assert scout.messages()[-1].reply_to == asked.id
        assert scout.outcomes() == ["answered"]
        assert scout.runs() == 1


def test_the_kernel_says_who_it_is(house: House) -> None:
    """The service's way: an own Linux user, and no token anywhere."""
    folder = Path(tempfile.mkdtemp(prefix="colony-home-", dir="/tmp"))
    try:
        folder.chmod(0o711)
        house.server.socket.chmod(0o777)
        scout = house.agent(folder, linux_user="nobody")
        config = scout.home / ".colony.toml"
        config.write_text("".join(line for line in config.read_text().splitlines(True) if not line.startswith("token")))
        for path in (scout.home, *scout.home.rglob("*")):
            shutil.chown(path, "nobody", "nogroup")
        with scout.worker(user="nobody") as worker:
            idle(worker)
            scout.ask()
            assert scout.await_said() == ["answered"]
    finally:
        shutil.rmtree(folder)


# Pause and resume


def test_pause_and_resume_are_obeyed_at_once(scout: Agent) -> None:
    with scout.worker() as worker:
        idle(worker)
        scout.set_status("paused")
        worker.await_log("status=paused", seconds=SOON)
        scout.ask()
        time.sleep(1)
        assert scout.runs() == 0
        assert scout.turns() == []
        scout.set_status("healthy")
        worker.await_log("status=healthy", count=2, seconds=SOON)
        assert scout.await_said() == ["answered"]


def test_a_pause_ends_the_running_turn_and_resume_starts_it_again(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(sleeps_first(mark))
    with scout.worker() as worker:
        scout.ask()
        wait_for(lambda: running(mark), "running turn")
        scout.set_status("paused")
        wait_for(lambda: scout.turns()[0].state == "resting", "turn that was handed back", SOON)
        turn = scout.turns()[0]
        assert (turn.failures, turn.error_code, turn.attempt) == (0, "stopped", 1)
        wait_for(lambda: not running(mark), "end of its runner", SOON)
        scout.set_status("healthy")
        assert scout.await_said() == ["answered"]
        assert scout.outcomes() == ["answered"]
        assert [(turn.state, turn.attempt, turn.failures) for turn in scout.turns()] == [("finished", 2, 0)]
        assert worker.is_alive


def test_draining_hands_the_turn_back_and_dead_ends_the_worker(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(sleeps_first(mark))
    with scout.worker() as worker:
        scout.ask()
        wait_for(lambda: running(mark), "running turn")
        scout.set_status("draining")
        wait_for(lambda: scout.turns()[0].state == "resting", "turn that was handed back", SOON)
        assert worker.is_alive
        scout.set_status("dead")
        assert worker.wait(SOON) == 0
        assert "worker ends" in worker.log()
        assert not running(mark)


def test_it_hears_of_a_change_while_it_rests_after_turns_that_did_nothing(scout: Agent) -> None:
    with scout.worker(turn_argv=["/bin/sh", "-c", "exit 9"]) as worker:
        scout.ask()
        worker.await_log("turn crashed", count=4)  # it rests for 5 s now
        began = time.monotonic()
        scout.set_status("paused")
        worker.await_log("status=paused")
        assert time.monotonic() - began < 4


def test_turns_that_do_nothing_are_started_ever_more_rarely(scout: Agent) -> None:
    with scout.worker(turn_argv=["/bin/sh", "-c", f"echo x >> {scout.home}/starts; exit 75"]) as worker:
        scout.ask()
        time.sleep(3)
        assert (scout.home / "starts").read_text().count("x") in (2, 3, 4)  # after 0, 0.5, 1.5 and 3.5 s
        assert "crashed" not in worker.log()


# SIGTERM


@pytest.mark.parametrize("code", list(Exit))
def test_it_knows_how_a_turn_may_end(scout: Agent, code: Exit) -> None:
    with scout.worker(turn_argv=["/bin/sh", "-c", f"echo x >> {scout.home}/starts; exit {code.value}"]) as worker:
        scout.ask()
        wait_for(lambda: (scout.home / "starts").exists() and (scout.home / "starts").read_text().count("x") > 1, "second turn")
        assert "turn crashed" not in worker.log()


@pytest.mark.parametrize("code", [1, 139])
def test_any_other_end_of_a_turn_is_told(scout: Agent, code: int) -> None:
    with scout.worker(turn_argv=["/bin/sh", "-c", f"exit {code}"]) as worker:
        scout.ask()
        worker.await_log(f"turn crashed agent={scout.name} code={code}")


def test_sigterm_ends_an_idle_worker_at_once(scout: Agent) -> None:
    with scout.worker() as worker:
        idle(worker)
        worker.signal(signal.SIGTERM)
        assert worker.wait(SOON) == 0
        assert worker.log().splitlines()[-1].startswith("worker ends")


def test_sigterm_hands_the_running_turn_back_and_leaves_no_process(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(sleeps_first(mark))
    with scout.worker() as worker:
        scout.ask()
        wait_for(lambda: running(mark), "running turn")
        family = worker.family()
        assert family
        worker.signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        wait_for(lambda: not living(family), "end of its processes", SOON)
    assert not running(mark)
    turn = scout.turns()[0]
    assert (turn.state, turn.failures, turn.error_code) == ("resting", 0, "stopped")
    with scout.worker():
        assert scout.await_said() == ["answered"]


def test_sigterm_at_any_moment_of_a_turns_start_is_heard(scout: Agent) -> None:
    """Also between the start of the child, its claim, and its runner."""
    with scout.worker() as worker:
        idle(worker)
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3):
        with scout.worker() as worker:
            idle(worker)
            scout.ask()
            time.sleep(delay)
            worker.signal(signal.SIGTERM)
            assert worker.wait(15) == 0
    with scout.worker():
        wait_for(lambda: scout.outcomes() == ["answered"] * 6, "answers")
    assert sum(turn.failures for turn in scout.turns()) == 0
    assert len(scout.said()) == len(scout.turns())


def test_a_turn_that_does_not_stop_is_killed(scout: Agent) -> None:
    mark = new_mark()
    with scout.worker(turn_argv=["/bin/sh", "-c", f"trap '' TERM; while :; do sleep {mark}; done"]) as worker:
        scout.ask()
        wait_for(lambda: running(mark), "running turn")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert "turn killed" in worker.log()
    wait_for(lambda: not running(mark), "end of the turn", SOON)


# A server that is away


def test_it_waits_for_a_server_that_is_down_and_says_so_once(house: House, scout: Agent) -> None:
    with scout.worker() as worker:
        idle(worker)
        house.server.kill()
        try:
            worker.await_log("server unreachable")
            time.sleep(0.8)
            assert worker.is_alive
            assert worker.log().count("server unreachable") == 1
        finally:
            house.server.start()
        worker.await_log("server is back")
        scout.ask()
        assert scout.await_said() == ["answered"]


def test_it_can_be_started_before_its_server(house: House, scout: Agent) -> None:
    house.server.stop()
    try:
        with scout.worker() as worker:
            worker.await_log("server unreachable")
            house.server.start()
            worker.await_log("status=healthy")
    finally:
        if not house.server.processes():
            house.server.start()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_of_the_server_during_a_turn_leaves_one_answer(house: House, scout: Agent, end: str) -> None:
    scout.settle(WAITS_FOR_GO)
    with scout.worker():
        scout.ask()
        wait_for(lambda: scout.runs() == 1, "running turn")
        getattr(house.server, end)()
        try:
            (scout.home / "go").touch()
            wait_for(lambda: scout.state.finished, "answer in the journal")
            time.sleep(0.5)
        finally:
            house.server.start()
        assert scout.await_said() == ["answered"]
        time.sleep(0.5)
        assert scout.said() == ["answered"]
        assert scout.outcomes() == ["answered"]
        assert scout.runs() == 1
        assert [turn.failures for turn in scout.turns()] == [0]


def test_a_wrong_token_is_told_in_one_clear_line_and_does_not_spin(house: House, scout: Agent) -> None:
    with Relay(house.server.port) as relay:
        scout.settle(url=relay.url, token="nobody-s-token")
        with scout.worker() as worker:
            worker.await_log("server unreachable")
            time.sleep(2)
            assert worker.is_alive
            complaints = [line for line in worker.log().splitlines() if "unreachable" in line]
            assert len(complaints) == 1
            assert "401" in complaints[0]
            assert "token" in complaints[0]
            assert "nobody-s-token" not in worker.log()
            assert relay.connections <= 6


NO_ANSWERS = [
    b"",
    b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n[]",
    b"HTTP/1.0 200 OK\r\n\r\n5",
    b'HTTP/1.0 200 OK\r\n\r\n{"due": true}',
    b'HTTP/1.0 200 OK\r\n\r\n{"due": true, "status": "heal',
    b"HTTP/1.0 \xff\xfe OK\r\n\r\n\xff\xfe",
    b'HTTP/1.0 502 Bad Gateway\r\n\r\n["no"]',
    b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 100_000,
]


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
def test_it_survives_what_is_no_colonys_answer(house: House, scout: Agent, answer: bytes) -> None:
    with Relay(house.server.port, answer) as relay:
        scout.settle(url=relay.url)
        with scout.worker() as worker:
            worker.await_log("server is back")
            assert worker.log().count("server unreachable") == 1
            assert "Traceback" not in worker.log()


# systemd


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_tells_systemd_how_it_is(scout: Agent, tmp_path: Path, kind: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        name = str(tmp_path / "notify") if kind == "path" else f"@colony-test-{os.getpid()}"
        channel.bind(name.replace("@", "\0"))
        channel.settimeout(SOON)
        with scout.worker(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"}) as worker:
            assert channel.recv(4096).startswith(b"READY=1\n")
            said = [channel.recv(4096) for _ in range(8)]
            assert said.count(b"WATCHDOG=1") >= 6
            assert any(text.startswith(b"STATUS=") and text.endswith(b"is healthy") for text in said)
            worker.signal(signal.SIGTERM)
            while channel.recv(4096) != b"STOPPING=1":
                pass
            assert worker.wait(SOON) == 0


def test_it_pets_the_watchdog_while_a_turn_runs_and_while_the_server_is_away(scout: Agent, tmp_path: Path) -> None:
    scout.settle(WAITS_FOR_GO)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(SOON)
        with scout.worker(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}):
            scout.ask()
            wait_for(lambda: scout.runs() == 1, "running turn")
            channel.setblocking(False)
            drain(channel)
            channel.settimeout(SOON)
            assert {channel.recv(4096) for _ in range(5)} == {b"WATCHDOG=1"}
            (scout.home / "go").touch()
            scout.await_said()


def drain(channel: socket.socket) -> None:
    try:
        while True:
            channel.recv(4096)
    except BlockingIOError:
        pass


# The pulse


def test_a_heartbeat_file_with_content_gets_a_pulse(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text("look after the garden\n")
    with scout.worker(pulse_seconds=1):
        wait_for(lambda: scout.turns() and scout.turns()[-1].state == "finished", "pulse")
        turn = scout.turns()[-1]
        assert (turn.kind, turn.channel) == ("pulse", None)
        assert "look after the garden" in (scout.home / "said.json").read_text()
        assert scout.said() == []


def test_an_empty_heartbeat_file_costs_nothing(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text(" \n\n")
    with scout.worker(pulse_seconds=1) as worker:
        idle(worker)
        time.sleep(1.5)
        assert worker.family() == []
    assert scout.turns() == []


def test_a_paused_agent_has_no_pulse(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text("look after the garden\n")
    scout.set_status("paused")
    with scout.worker(pulse_seconds=1) as worker:
        worker.await_log("status=paused")
        time.sleep(1.5)
    assert scout.turns() == []


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_link(path: Path) -> None:
    target = path.with_name("other.md")
    target.write_text("do this\n")
    path.symlink_to(target)


def as_folder(path: Path) -> None:
    path.mkdir()


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [as_pipe, as_link, as_folder, as_device, Path.unlink])
def test_an_odd_heartbeat_file_neither_hangs_nor_leads_it(scout: Agent, make: Callable[[Path], None]) -> None:
    file = scout.home / "heartbeat.md"
    if make is not Path.unlink:
        file.unlink()
    make(file)
    with scout.worker(pulse_seconds=1) as worker:
        idle(worker)
        time.sleep(1.5)
        assert scout.turns() == []
        scout.ask()
        assert scout.await_said() == ["answered"]
        assert worker.is_alive


# Deadlines


def test_a_turn_past_its_deadline_is_killed_as_a_whole_tree(scout: Agent) -> None:
    mark = new_mark()
    hangs = f"trap '' TERM; (sleep {mark} &); setsid sleep {mark}"
    scout.settle(f"echo run >> runs; [ $(wc -l < runs) -gt 1 ] || {{ {hangs}; }}; echo answered")
    with scout.worker(turn_deadline_seconds=3) as worker:
        scout.ask()
        wait_for(lambda: len(running(mark)) >= 2, "running turn")
        worker.await_log("turn killed")
        wait_for(lambda: not running(mark), "end of the tree", SOON)
        assert scout.await_said() == ["answered"]
        turn = scout.turns()[0]
        assert (turn.attempt, turn.failures) == (2, 1)


def test_what_a_killed_turn_leaves_behind_ends_with_it(house: House, tmp_path: Path) -> None:
    """Even what has left its session, its group and its parents."""
    agent = house.agent(tmp_path, "setsid sleep 1000 & echo $! > stray; wait", sandbox="none")
    with agent.worker() as worker:
        agent.ask()
        wait_for(lambda: (agent.home / "stray").exists() and (agent.home / "stray").read_text().strip(), "the stray")
        stray = psutil.Process(int((agent.home / "stray").read_text()))
        turn = next(each for each in psutil.Process(worker.pid).children() if "turn" in each.cmdline())
        turn.kill()
        wait_for(lambda: not stray.is_running() or stray.status() == psutil.STATUS_ZOMBIE, "the end of the stray")
        assert worker.is_alive
