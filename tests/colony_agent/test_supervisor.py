"""Children that are kept running, with real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from colony_agent import supervisor as module
from colony_agent.supervisor import Supervisor
from tests.colony_agent.agents import living, wait_for
from tests.colony_agent.cast import new_mark, running


@pytest.fixture
def mark() -> Iterator[str]:
    mark = new_mark()
    yield mark
    for each in running(mark):
        each.kill()


def sleeper(mark: str) -> list[str]:
    return ["sleep", mark]


def only(mark: str) -> psutil.Process:
    wait_for(lambda: len(running(mark)) == 1, "one child")
    return running(mark)[0]


def is_followed(first: psutil.Process, mark: str) -> bool:
    return [each.pid for each in running(mark)] not in ([], [first.pid])


def is_ready(supervisor: Supervisor, name: str) -> bool:
    return supervisor.last_words(name) == "ready"


def test_a_child_that_is_killed_comes_back(tmp_path: Path, mark: str) -> None:
    with Supervisor(tmp_path / "log", 2) as supervisor:
        supervisor.start("child", sleeper(mark))
        for _ in range(2):
            first = only(mark)
            first.kill()
            wait_for(partial(is_followed, first, mark), "new child")
        assert supervisor.has_failed("child")
    assert running(mark) == []


def test_its_output_is_kept_with_its_last_words(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "log", 2) as supervisor:
        assert supervisor.last_words("child") == ""
        supervisor.start("child", ["sh", "-c", "echo one; echo two >&2; sleep 60"])
        wait_for(lambda: supervisor.last_words("child") == "two", "last words")
        assert supervisor.log("child").read_text() == "one\ntwo\n"
        assert not supervisor.has_failed("child")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


def test_a_large_log_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 10)
    with Supervisor(tmp_path, 2) as supervisor:
        supervisor.log("child").write_text("x" * 11)
        supervisor.start("child", ["sh", "-c", "echo new; sleep 60"])
        wait_for(lambda: supervisor.last_words("child") == "new", "last words")
        assert supervisor.log("child").read_text() == "new\n"
        assert supervisor.log("child").with_suffix(".log.1").read_text() == "x" * 11


def test_one_that_fails_at_once_is_started_ever_more_rarely(tmp_path: Path) -> None:
    with Supervisor(tmp_path, 2) as supervisor:
        supervisor.start("child", ["sh", "-c", "echo x; exit 1"])
        wait_for(lambda: supervisor.has_failed("child"), "failure")
        time.sleep(2)
        assert supervisor.log("child").read_text().count("x") in (2, 3, 4)  # after 0, 0.2, 0.7, 1.7 and 3.7 s


def test_the_last_child_ends_first(tmp_path: Path) -> None:
    tells = "trap 'echo {0} >> {1}; exit' TERM; echo ready; while :; do sleep 0.05; done"
    with Supervisor(tmp_path, 5) as supervisor:
        for name in ("server", "agent"):
            supervisor.start(name, ["sh", "-c", tells.format(name, tmp_path / "order")])
            wait_for(partial(is_ready, supervisor, name), name)
    assert (tmp_path / "order").read_text() == "agent\nserver\n"


def test_children_that_do_not_stop_are_killed_with_theirs(tmp_path: Path, mark: str) -> None:
    began = 0.0
    with Supervisor(tmp_path, 1) as supervisor:
        for name in ("one", "two"):
            supervisor.start(name, ["sh", "-c", f"trap '' TERM; sleep {mark} & echo ready; while :; do sleep {mark}; done"])
            wait_for(partial(is_ready, supervisor, name), name)
        wait_for(lambda: len(running(mark)) >= 4, "their children")
        began = time.monotonic()
    assert time.monotonic() - began < 10
    wait_for(lambda: not living(running(mark)), "end of all")


def test_a_child_that_waits_for_its_next_start_is_not_started_again(tmp_path: Path) -> None:
    with Supervisor(tmp_path, 2) as supervisor:
        supervisor.start("child", ["sh", "-c", "echo x"])
        wait_for(lambda: supervisor.last_words("child"), "first run")
    runs = supervisor.log("child").read_text()
    time.sleep(0.5)
    assert supervisor.log("child").read_text() == runs


def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path, mark: str) -> None:
    program = f"""
import time
from pathlib import Path
from colony_agent.supervisor import Supervisor
with Supervisor(Path({str(tmp_path)!r}), 2) as supervisor:
    supervisor.start("child", ["sleep", {mark!r}])
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        wait_for(lambda: any(each.name() == "sleep" for each in running(mark)), "child")
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not running(mark), "end of the child")
