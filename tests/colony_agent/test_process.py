"""A process that is fed, heard and bounded, and leaves nothing behind."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from colony.failures import CRASHED, STOPPED, TIMED_OUT
from colony_agent import process
from colony_agent.process import Exit
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import Command, Sandbox, for_home
from tests.colony_agent.cast import new_mark, running, scout_at, wait_until
from tests.colony_agent.engines import ENGINES

MEGABYTE = 2**20
PYTHON = str(Path(sys.executable).resolve())


@pytest.fixture(params=[*ENGINES, "none"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    """Each test sees a process that an engine keeps, and a bare one."""
    return for_home(scout_at(tmp_path / "scout", sandbox=request.param))


def run(sandbox: Sandbox, script: str, stdin: bytes = b"", timeout_seconds: float = 20) -> tuple[list[bytes], Exit]:
    lines: list[bytes] = []
    return lines, process.run(shell(sandbox, script), stdin, lines.append, timeout_seconds, threading.Event())


def shell(sandbox: Sandbox, script: str) -> Command:
    return sandbox.confine(["/bin/sh", "-c", script], {})


def test_its_lines_are_heard_in_order_and_the_last_needs_no_end(sandbox: Sandbox) -> None:
    lines, ended = run(sandbox, "echo one; echo; printf two; exit 3")
    assert lines == [b"one", b"", b"two"]
    assert (ended.returncode, ended.stderr) == (3, "")


def test_lines_are_heard_while_it_runs(sandbox: Sandbox) -> None:
    heard_at: list[float] = []
    process.run(shell(sandbox, "echo now; sleep 0.5"), b"", lambda _: heard_at.append(time.monotonic()), 20, threading.Event())
    assert time.monotonic() - heard_at[0] > 0.4


def test_it_is_fed_and_its_stdin_closed(sandbox: Sandbox) -> None:
    fed = os.urandom(3 * MEGABYTE).replace(b"\n", b" ")
    lines, ended = run(sandbox, "cat", fed)
    assert (b"".join(lines), ended.returncode) == (fed, 0)


def test_it_need_not_read_what_it_is_fed(sandbox: Sandbox) -> None:
    lines, ended = run(sandbox, "exec 0<&-; echo done", b"x" * MEGABYTE)
    assert (lines, ended.returncode) == ([b"done"], 0)


def test_only_the_last_of_stderr_is_kept(sandbox: Sandbox) -> None:
    _, ended = run(sandbox, "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last words >&2; exit 1")
    assert len(ended.stderr) == process.STDERR_KEPT_BYTES
    assert ended.last_words == "last words"


def test_what_ends_without_a_word_is_told_by_its_code() -> None:
    assert Exit(3, " \n").last_words == "it ended with code 3 and without a word"


def test_what_was_killed_is_said_to_have_been(sandbox: Sandbox) -> None:
    _, ended = run(sandbox, "echo by the way >&2; kill -9 $$")
    assert ended.last_words == "it was killed: most likely it took more memory than there is for it"


def test_where_memory_is_short_it_goes_before_who_started_it(sandbox: Sandbox) -> None:
    before = process.OOM_SCORE.read_text()
    lines, _ = run(sandbox, "sh -c 'cat /proc/self/oom_score_adj'")
    assert lines == [b"1000"]
    assert process.OOM_SCORE.read_text() == before


@pytest.mark.parametrize("flood", ["cat /dev/zero", f"yes {'x' * 99}"], ids=["one endless line", "endless lines"])
def test_a_flood_ends_it_and_eats_no_memory(sandbox: Sandbox, flood: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunnerFailed, match="flooded its output") as failed:
        process.run(shell(sandbox, flood), b"", lambda _: None, 20, threading.Event())
    assert failed.value.failure is CRASHED
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 8 * process.MAX_LINE_BYTES


def test_when_its_time_is_over_its_whole_tree_ends(sandbox: Sandbox) -> None:
    mark, started_at = new_mark(), time.monotonic()
    with pytest.raises(RunnerFailed, match=r"it took longer than 0.3 s") as failed:
        run(sandbox, f"setsid sleep {mark} & sleep {mark} & sleep {mark}", timeout_seconds=0.3)
    assert failed.value.failure is TIMED_OUT
    assert time.monotonic() - started_at < 0.3 + 2
    assert running(mark) == []


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM INT HUP; "], ids=["polite", "stubborn"])
def test_it_can_be_stopped_within_two_seconds_with_its_whole_tree(sandbox: Sandbox, stubborn: str) -> None:
    mark, stop = new_mark(), threading.Event()
    script = f"{stubborn}(setsid sh -c '{stubborn}sleep {mark}; sleep {mark}') & while true; do sleep {mark}; done"

    def stop_when_it_runs() -> None:
        wait_until(lambda: len([found for found in running(mark) if found.name() == "sleep"]) == 2)
        stop.set()

    stopper = threading.Thread(target=stop_when_it_runs)
    stopper.start()
    with pytest.raises(RunnerFailed) as failed:
        process.run(shell(sandbox, script), b"", print, 30, stop)
    assert failed.value.failure is STOPPED
    assert running(mark) == []
    stopper.join()


def test_the_stop_takes_less_than_two_seconds_however_stubborn_it_is(sandbox: Sandbox) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started_at = time.monotonic()
    with pytest.raises(RunnerFailed):
        process.run(shell(sandbox, "trap '' TERM; while true; do sleep 0.01; done"), b"", print, 30, stop)
    assert 0.5 <= time.monotonic() - started_at < 0.5 + 2


def test_it_hears_sigterm_before_it_is_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    script = "trap 'echo tidied > tidied; exit' TERM; echo ready; while true; do sleep 0.05; done"
    stop = threading.Event()
    with pytest.raises(RunnerFailed):
        process.run(shell(sandbox, script), b"", lambda _: stop.set(), 30, stop)
    assert (tmp_path / "scout" / "tidied").read_text() == "tidied\n"


def test_a_stop_before_the_start_counts(sandbox: Sandbox) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(RunnerFailed) as failed:
        process.run(shell(sandbox, "sleep 60"), b"", print, 30, stop)
    assert failed.value.failure is STOPPED


def test_a_failing_listener_ends_it(sandbox: Sandbox) -> None:
    mark = new_mark()

    def fail(line: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run(shell(sandbox, f"echo; sleep {mark}"), b"", fail, 20, threading.Event())
    assert running(mark) == []


def test_what_it_leaves_in_the_background_ends_with_it(sandbox: Sandbox) -> None:
    mark = new_mark()
    lines, _ = run(sandbox, f"sleep {mark} & echo done")
    assert lines == [b"done"]
    assert running(mark) == []


def test_a_process_that_closes_its_output_is_still_waited_for(sandbox: Sandbox) -> None:
    started_at = time.monotonic()
    _, ended = run(sandbox, "exec 1>&- 2>&-; sleep 0.4; exit 5")
    assert (ended.returncode, time.monotonic() - started_at > 0.4) == (5, True)


def test_it_leaks_no_descriptors(sandbox: Sandbox) -> None:
    run(sandbox, "true")
    before = os.listdir("/proc/self/fd")
    run(sandbox, "true")
    with pytest.raises(RunnerFailed):
        run(sandbox, "sleep 9", timeout_seconds=0.01)
    with pytest.raises(RunnerFailed):
        process.run(replace(shell(sandbox, "true"), argv=("/no/such",)), b"", print, 20, threading.Event())
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/hostname", "nul\0character"])
def test_what_can_not_start_is_named(tmp_path: Path, program: str) -> None:
    with pytest.raises(RunnerFailed, match="can't start") as failed:
        process.run(Command((program,), {}, tmp_path), b"", print, 20, threading.Event())
    assert failed.value.failure is CRASHED


def test_a_fork_bomb_is_stopped_as_a_whole(tmp_path: Path) -> None:
    """In a sandbox, that is: a process that hides from its parents escapes without one."""
    mark = new_mark()
    sandbox = for_home(scout_at(tmp_path / "scout"))
    bomb = f"import os, time\nfor _ in range(6): os.fork()\nos.setsid() if os.getpid() > 2 else None\ntime.sleep(float('{mark}'))"
    with pytest.raises(RunnerFailed):
        process.run(sandbox.confine([PYTHON, "-c", bomb], {}), b"", print, 1, threading.Event())
    assert running(mark) == []
