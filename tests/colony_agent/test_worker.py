"""The worker as a real process, against the real server."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.colony_agent.agents import SOON, Agent, House, idle, wait_for
from tests.colony_agent.brains import sleeps_first
from tests.colony_agent.cast import new_mark, running

# From the standard library, and nothing of it that is large.
IMPORTED = {
    *("__future__", "_collections_abc", "_frozen_importlib_external", "_weakrefset", "abc", "array", "codecs", "collections", "copyreg"),
    *("encodings", "enum", "functools", "genericpath", "io", "json", "keyword", "math", "operator", "os", "posixpath", "re", "reprlib"),
    *("select", "selectors", "signal", "socket", "stat", "types", "zipimport"),
}
C_PARTS = {"_json", "_socket"}
MIB = 1024 * 1024


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
