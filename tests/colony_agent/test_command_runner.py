"""Any program as a runner, in the real sandbox."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from colony import schema
from colony.failures import CRASHED, STOPPED, TIMED_OUT
from colony_agent.runner import RunnerFailed
from colony_agent.runner.command import CommandRunner
from colony_agent.runner.reply import CUT, storable
from colony_agent.sandbox import for_home
from tests.colony_agent.cast import new_mark, running, scout_at, task, wait_until


def shell(tmp_path: Path, script: str) -> CommandRunner:
    return runner(tmp_path, "sh", "-c", script)


def runner(tmp_path: Path, *command: str) -> CommandRunner:
    home = scout_at(tmp_path / "scout", runner="command", command=command)
    return CommandRunner(home, for_home(home))


def test_what_it_prints_is_the_reply(tmp_path: Path) -> None:
    answer = shell(tmp_path, "printf 'one\\n\\ntwo\\n'").run(task(), print)
    assert (answer.reply, answer.usage, answer.session) == ("one\n\ntwo", schema.Usage(prompt_characters=len("hello")), None)


def test_it_reads_the_prompt_and_the_turn(tmp_path: Path) -> None:
    document = json.loads(shell(tmp_path, "cat").run(task("Prömpt", "where is it?"), print).reply)
    assert document["prompt"] == "Prömpt"
    assert schema.Turn.model_validate(document["turn"]).items[0].message.body == "where is it?"
    assert (document["timeout_seconds"], document["tools"]) == (20, None)


def test_it_runs_in_the_home_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of another")
    assert shell(tmp_path, f"pwd; ls {tmp_path}").run(task(), print).reply == f"{tmp_path}/scout\nscout"


def test_a_script_outside_the_home_can_be_read_when_the_command_names_it(tmp_path: Path) -> None:
    brain = tmp_path / "brain.py"
    brain.write_text("import json, sys; print(json.load(sys.stdin)['prompt'].upper())")
    assert runner(tmp_path, str(Path(sys.executable).resolve()), str(brain)).run(task("think"), print).reply == "THINK"


def test_progress_tells_what_runs(tmp_path: Path) -> None:
    told: list[str] = []
    shell(tmp_path, "true").run(task(), told.append)
    assert told == ["runs sh"]


def test_a_crash_is_told_by_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RunnerFailed, match=r"^KeyError: 'x'$") as failed:
        shell(tmp_path, "echo half; echo Traceback >&2; echo \"KeyError: 'x'\" >&2; exit 1").run(task(), print)
    assert failed.value.failure is CRASHED


def test_it_is_ended_when_its_time_is_over(tmp_path: Path) -> None:
    mark = new_mark()
    with pytest.raises(RunnerFailed) as failed:
        shell(tmp_path, f"sleep {mark}").run(task(timeout_seconds=0.2), print)
    assert failed.value.failure is TIMED_OUT
    assert running(mark) == []


def test_it_can_be_stopped(tmp_path: Path) -> None:
    mark = new_mark()
    thinking = shell(tmp_path, f"sleep {mark}")

    def stop() -> None:
        wait_until(lambda: bool(running(mark)))
        thinking.stop()

    threading.Thread(target=stop).start()
    with pytest.raises(RunnerFailed) as failed:
        thinking.run(task(), print)
    assert failed.value.failure is STOPPED
    assert running(mark) == []


def test_a_long_reply_is_cut_with_a_note(tmp_path: Path) -> None:
    reply = shell(tmp_path, "yes äöü | head -c 3000000").run(task(), print).reply
    assert reply.endswith("64 KiB)_")
    assert schema.MAX_BODY_BYTES - 9 < len(reply.encode()) <= schema.MAX_BODY_BYTES


def test_bytes_that_are_no_text_become_text(tmp_path: Path) -> None:
    reply = shell(tmp_path, "printf 'a\\377\\000b'").run(task(), print).reply
    assert reply == "a\ufffdb"
    schema.FinishTurn(id=7, reply=reply)


@pytest.mark.parametrize("text", ["x" * schema.MAX_BODY_BYTES, "€" * schema.MAX_BODY_BYTES, "\0\ud800 lone", "", " \n"])
def test_whatever_a_model_writes_can_be_posted(text: str) -> None:
    assert schema.FinishTurn(id=7, reply=storable(text)).reply is not None


def test_what_fits_is_not_cut() -> None:
    assert CUT not in storable("x" * schema.MAX_BODY_BYTES)
    assert CUT in storable("x" * (schema.MAX_BODY_BYTES + 1))


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerFailed, match="no-such-brain"):
        runner(tmp_path, "no-such-brain").run(task(), print)
    with pytest.raises(RunnerFailed, match=r"agent\.command names no program"):
        runner(tmp_path).run(task(), print)
