"""Turns as real processes against the real server, with a small program for a brain, or with Claude Code against the stand-in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from colony import errors, failures, operations, schema
from colony.client import Client
from colony.files import private_folder
from colony_agent import state
from colony_agent.settings import STATE_FILE
from tests.colony_agent.agents import Agent, House, Process, living, wait_for
from tests.colony_agent.cast import new_mark, running
from tests.colony_agent.relay import Relay, problem
from tests.server.machine import as_root
from tests.standin import Reply, Standin, error, hang, prompt_text, text, tool, tool_result
from tests.standin.claude import claude_binary
from tests.standin.replies import Failure

DONE, FAILED, NOTHING = 0, 10, 75
WAITS_FOR_GO = "echo run >> runs; while [ ! -e go ]; do sleep 0.02; done; echo answered"
HANGS_FIRST = "cat > said.json; echo run >> runs; [ $(wc -l < runs) -gt 1 ] || sleep {}; echo answered"


def claim(scout: Agent, **more: object) -> schema.Turn:
    """A turn taken by hand, with the agent's identity."""
    with scout.house.server.client(scout.token) as client:
        claimed = client.call(operations.CLAIM, schema.ClaimTurn(**more)).turn
    assert claimed
    return claimed


def end_by_hand(scout: Agent, turn: schema.Turn) -> None:
    with Client(scout.house.server.url, scout.token, f"{turn.id}.{turn.attempt}") as client:
        client.call(operations.FINISH, schema.FinishTurn(id=turn.id))


def told(scout: Agent) -> dict[str, object]:
    """What the brain was told last."""
    document: dict[str, object] = json.loads((scout.home / "said.json").read_text())
    return document


# What a turn does


def test_nothing_due_costs_nothing(scout: Agent) -> None:
    assert scout.turn().returncode == NOTHING
    assert (scout.turns(), scout.runs()) == ([], 0)


def test_a_paused_agent_has_nothing_to_do(scout: Agent) -> None:
    scout.ask()
    scout.set_status("paused")
    done = scout.turn()
    assert done.returncode == NOTHING
    assert "paused" in done.stderr


def test_several_messages_get_one_reply(scout: Agent) -> None:
    scout.ask("one")
    scout.ask("two", scout.house.bob)
    last = scout.ask("three")
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"]
    assert scout.messages()[-1].reply_to == last.id
    assert scout.outcomes() == ["answered"] * 3
    prompt = told(scout)["prompt"]
    assert isinstance(prompt, str)
    assert [word for word in ("one", "two", "three") if f"> @{scout.name} {word}" in prompt] == ["one", "two", "three"]


def test_each_channel_has_its_own_turn_and_the_longest_waiting_comes_first(house: House, scout: Agent) -> None:
    scout.ask("first", channel="general")
    scout.ask("second")
    assert scout.turn().returncode == DONE
    assert (scout.said("general"), scout.said()) == (["answered"], [])
    assert scout.turn().returncode == DONE
    assert (scout.said("general"), scout.said()) == (["answered"], ["answered"])


@pytest.mark.parametrize(
    ("brain", "reply"),
    [
        ("head -c 200000 /dev/zero | tr '\\0' x", "x" * 100),
        (r"printf 'a\000b\377c'", "ab\N{REPLACEMENT CHARACTER}c"),
        ("i=0; while [ $i -lt 40000 ]; do printf 'é'; i=$((i+1)); done", "é" * 100),
        ("printf '\\n\\n  spaces around  \\n\\n'", "spaces around"),
    ],
    ids=["long", "binary", "cut within a character", "blanks"],
)
def test_whatever_a_program_prints_becomes_a_message(scout: Agent, brain: str, reply: str) -> None:
    scout.settle(brain)
    scout.ask()
    assert scout.turn().returncode == DONE
    said = scout.said()[0]
    assert said.startswith(reply)
    assert len(said.encode()) <= schema.MAX_BODY_BYTES
    assert ("cut here" in said) == (len(reply) == 100)


@pytest.mark.parametrize("brain", ["echo HEARTBEAT_OK", ":", "printf '\\n \\n'"])
def test_nothing_to_say_is_not_posted(scout: Agent, brain: str) -> None:
    scout.settle(brain)
    scout.ask()
    assert scout.turn().returncode == DONE
    assert scout.said() == []
    assert scout.outcomes() == ["ignored"]


def test_the_next_turn_is_told_what_was_said_before(scout: Agent) -> None:
    scout.house.ann.call(operations.POST, schema.PostMessage(channel=scout.name, body="the weather is fine"))
    scout.ask()
    assert scout.turn().returncode == DONE
    assert "> the weather is fine" in str(told(scout)["prompt"])


def test_a_pulse_posts_nothing(scout: Agent) -> None:
    (scout.home / "heartbeat.md").write_text("look after the garden")
    assert scout.turn("--pulse").returncode == DONE
    assert [(turn.kind, turn.state) for turn in scout.turns()] == [("pulse", "finished")]
    assert "look after the garden" in str(told(scout)["prompt"])
    assert scout.runs() == 1


# Failures


def test_a_crash_rests_the_turn_and_says_why(scout: Agent) -> None:
    scout.settle("echo run >> runs; echo the lamp is broken >&2; exit 3")
    scout.ask()
    before = datetime.now(UTC)
    assert scout.turn().returncode == FAILED
    turn = scout.turns()[0]
    assert (turn.state, turn.failures, turn.error_code, turn.error) == ("resting", 1, "crashed", "the lamp is broken")
    item = scout.house.admin.call(operations.INBOX, schema.ReadInbox(user=scout.name)).items[0]
    assert item.not_before
    assert item.not_before - before > timedelta(seconds=failures.FIRST_BACKOFF_SECONDS - 1)
    assert scout.turn().returncode == NOTHING
    assert scout.runs() == 1


def test_the_fifth_crash_ends_in_a_notice_that_names_the_reason(scout: Agent) -> None:
    scout.settle("echo the lamp is broken >&2; exit 3")
    asked = scout.ask()
    for _ in range(failures.MAX_FAILURES - 1):
        turn = claim(scout)
        with Client(scout.house.server.url, scout.token, f"{turn.id}.{turn.attempt}") as client:
            client.call(operations.FAIL, schema.FailTurn(id=turn.id, code="crashed", retry_in_seconds=0))
    assert scout.turn().returncode == FAILED
    assert scout.outcomes() == ["dead"]
    notice = scout.messages()[-1]
    assert (notice.author, notice.type) == ("colony", "notice")
    for part in ("@ann", scout.name, f"#{asked.seq}", "the lamp is broken"):
        assert part in notice.body


def test_a_program_that_is_not_there_is_named(scout: Agent) -> None:
    scout.settle(command=["/no/such/brain"])
    scout.ask()
    assert scout.turn().returncode == FAILED
    assert "/no/such/brain" in (scout.turns()[0].error or "")


def test_a_turn_that_takes_too_long_is_ended_with_all_its_processes(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(f"(sleep {mark} &); setsid sleep {mark}", turn_timeout_seconds=1)
    scout.ask()
    assert scout.turn().returncode == FAILED
    assert scout.turns()[0].error_code == "timed_out"
    assert not running(mark)


def test_an_odd_file_in_the_way_hands_the_turn_back(scout: Agent) -> None:
    (scout.home / "heartbeat.md").unlink()
    (scout.home / "heartbeat.md").mkdir()
    assert scout.turn("--pulse").returncode == FAILED
    turn = scout.turns()[0]
    assert (turn.state, turn.error_code) == ("failed", "crashed")
    assert "heartbeat.md" in (turn.error or "")


def test_a_server_out_of_reach_is_one_clear_line(scout: Agent) -> None:
    scout.settle(url="unix:/run/no/such.sock")
    done = scout.turn()
    assert done.returncode == 8
    assert done.stderr.count("\n") == 1
    assert "is colony-server running?" in done.stderr


def test_sigterm_hands_the_turn_back_uncounted(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(HANGS_FIRST.format(mark))
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: running(mark), "running turn")
        turn.signal(signal.SIGTERM)
        assert turn.wait() == FAILED
    assert not running(mark)
    handed_back = scout.turns()[0]
    assert (handed_back.state, handed_back.error_code, handed_back.failures) == ("resting", "stopped", 0)
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"]


# Exactly one answer


def begin_and_answer_while_the_server_is_away(scout: Agent, turn: Process) -> None:
    """Up to the moment when the runner has ended and the journal is written, but nobody can be told."""
    wait_for(lambda: scout.runs() == 1, "running turn")
    scout.house.server.kill()
    (scout.home / "go").touch()
    wait_for(lambda: scout.state.finished, "answer in the journal")


def test_kill_9_between_the_answer_and_its_delivery_does_not_think_again(house: House, scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    try:
        with scout.begin("turn") as turn:
            begin_and_answer_while_the_server_is_away(scout, turn)
            turn.signal(signal.SIGKILL)
            turn.wait()
    finally:
        house.server.start()
    assert scout.turns()[0].state == "running"
    assert scout.turn().returncode == NOTHING  # nothing else was due
    assert scout.said() == ["answered"]
    assert scout.outcomes() == ["answered"]
    assert scout.runs() == 1
    assert scout.state.finished is None


def test_a_journal_that_was_delivered_already_changes_nothing(house: House, scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    journal = b""
    try:
        with scout.begin("turn") as turn:
            begin_and_answer_while_the_server_is_away(scout, turn)
            journal = (scout.home / STATE_FILE).read_bytes()
            house.server.start()
            assert turn.wait() == DONE
    finally:
        if not house.server.processes():
            house.server.start()
    (scout.home / STATE_FILE).write_bytes(journal)  # as if it had died just before it closed the journal
    scout.ask("again")
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"] * 2
    assert scout.outcomes() == ["answered"] * 2
    assert scout.runs() == 2


def journaled(scout: Agent, reply: str = "answered") -> schema.Turn:
    """A turn whose answer is in the journal, as if its process had died before it told anybody."""
    scout.ask()
    turn = claim(scout)
    state.save(scout.home, STATE_FILE, state.State(finished=state.Finished(turn.id, turn.attempt, reply, 10, 5, 0.25, None)))
    return turn


@pytest.mark.parametrize("error", [errors.ColonyError(), errors.Unauthenticated(), errors.Forbidden()], ids=lambda error: error.code)
def test_what_is_not_the_answers_fault_leaves_it_in_the_journal(scout: Agent, error: errors.ColonyError) -> None:
    journaled(scout)
    with Relay(scout.house.server.port, problem(error)) as relay:
        scout.settle(url=relay.url)
        done = scout.turn()
        assert (done.returncode, relay.connections) == (error.exit_code, 1)
        assert scout.state.finished
        assert scout.said() == []
        assert scout.turn().returncode == NOTHING
    assert scout.said() == ["answered"]
    assert scout.state.finished is None
    assert scout.runs() == 0


def test_a_token_that_is_no_longer_valid_costs_no_answer(scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        fresh = scout.house.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=scout.name)).token
        (scout.home / "go").touch()
        assert turn.wait() == errors.Unauthenticated.exit_code
    scout.settle(WAITS_FOR_GO, token=fresh)
    assert scout.turn().returncode == NOTHING
    assert (scout.said(), scout.runs()) == (["answered"], 1)


@pytest.mark.parametrize("error", [errors.StaleTurn(), errors.NotFound()], ids=lambda error: error.code)
def test_an_answer_that_nobody_waits_for_any_more_is_dropped(scout: Agent, error: errors.ColonyError) -> None:
    turn = journaled(scout)
    with Relay(scout.house.server.port, problem(error)) as relay:
        scout.settle(url=relay.url)
        done = scout.turn()
    assert "answer came too late" in done.stderr
    assert scout.state.finished is None
    assert (scout.turns()[0].id, scout.turns()[0].attempt) == (turn.id, 2)  # it goes on with what is left to do
    assert scout.said() == ["answered"]


def test_an_answer_that_the_server_refuses_fails_the_turn_and_does_not_block_the_next(scout: Agent) -> None:
    journaled(scout)
    with Relay(scout.house.server.port, problem(errors.Invalid("reply: it is odd"))) as relay:
        scout.settle(url=relay.url)
        assert scout.turn().returncode == NOTHING
    turn = scout.turns()[0]
    assert (turn.state, turn.failures, turn.error_code, turn.error) == ("resting", 1, "crashed", "reply: it is odd")
    assert scout.state.finished is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB, in a mount of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size=256k,uid={os.geteuid()}", "tmpfs", folder)
    yield folder
    as_root("umount", folder)


def test_a_full_disk_keeps_no_answer_from_its_channel(house: House, small_disk: Path) -> None:
    scout = house.agent(small_disk, "cat /dev/zero > fills.it; echo answered")
    scout.ask()
    done = scout.turn()
    assert done.returncode == DONE, done.stderr
    assert "state not saved" in done.stderr
    assert (scout.said(), scout.outcomes()) == (["answered"], ["answered"])
    assert [path.name for path in scout.home.glob(".*state*")] == [STATE_FILE]
    (scout.home / "fills.it").unlink()
    scout.settle()
    scout.ask()
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"] * 2


def test_a_full_disk_keeps_no_failure_from_the_server(house: House, small_disk: Path) -> None:
    scout = house.agent(small_disk, "cat /dev/zero > fills.it; echo the lamp is broken >&2; exit 3")
    scout.ask()
    assert scout.turn().returncode == FAILED
    assert scout.turns()[0].error == "the lamp is broken"


def test_kill_9_of_a_turn_leaves_no_process_and_the_next_attempt_answers(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(HANGS_FIRST.format(mark))
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: running(mark), "running turn")
        turn.signal(signal.SIGKILL)
        turn.wait()
        wait_for(lambda: not running(mark), "end of its runner")
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"]
    assert [(turn.attempt, turn.failures, turn.state) for turn in scout.turns()] == [(2, 1, "finished")]


def test_the_answer_of_an_attempt_that_was_taken_over_comes_too_late(scout: Agent) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        newer = claim(scout, take_over=True)
        assert newer.attempt == 2
        (scout.home / "go").touch()
        assert turn.wait() == DONE
        assert "answer came too late" in turn.log()
    assert scout.said() == []
    assert scout.turns()[0].state == "running"
    assert scout.state.finished is None
    end_by_hand(scout, newer)


def test_a_turn_longer_than_its_lease_keeps_it(scout: Agent) -> None:
    scout.settle("echo run >> runs; sleep 6; echo answered", lease_seconds=5)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        first = scout.turns()[0].lease_until
        assert turn.wait() == DONE
    ended = scout.turns()[0]
    assert ended.lease_until > first
    assert (ended.attempt, ended.state, scout.said()) == (1, "finished", ["answered"])


def test_a_server_that_cannot_renew_a_lease_now_stops_no_runner(scout: Agent) -> None:
    refusals = [problem(error) for error in (errors.StorageFull(), errors.ColonyError(), errors.Unavailable())]
    with Relay(scout.house.server.port, None, *refusals) as relay:  # the first connection is the claim's
        scout.settle("echo run >> runs; sleep 5.5; echo answered", url=relay.url, lease_seconds=5)
        scout.ask()
        done = scout.turn()
    assert done.returncode == DONE, done.stderr
    assert done.stderr.count("lease not renewed") == len(refusals)
    assert (scout.said(), scout.turns()[0].attempt) == (["answered"], 1)


def test_a_runner_whose_lease_is_lost_is_stopped(scout: Agent) -> None:
    mark = new_mark()
    scout.settle(f"sleep {mark}", lease_seconds=5)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: running(mark), "running turn")
        newer = claim(scout, take_over=True)
        assert turn.wait() == FAILED
        assert "lease lost" in turn.log()
        assert "taken away" in turn.log()
    assert not running(mark)
    assert (scout.turns()[0].state, scout.turns()[0].failures) == ("running", 1)
    end_by_hand(scout, newer)


@pytest.mark.parametrize("command", ["turn", "dream"])
def test_a_second_process_of_an_agent_finds_the_lock(scout: Agent, command: str) -> None:
    scout.settle(WAITS_FOR_GO)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for(lambda: scout.runs() == 1, "running turn")
        second = scout.run(command)
        assert second.returncode == NOTHING
        assert "another process" in second.stderr
        (scout.home / "go").touch()
        assert turn.wait() == DONE
    assert (scout.said(), scout.runs(), scout.turns()[0].attempt) == (["answered"], 1, 1)


BROKEN: list[Callable[[Path], object]] = [
    lambda file: file.write_text("{"),
    lambda file: file.write_text("[]"),
    lambda file: file.write_text('{"sessions": {"general": {}}, "finished": null}'),
    lambda file: file.write_text('{"sessions": {}, "seen": 5, "finished": null}'),
    lambda file: file.write_text('{"sessions": {}, "finished": {"turn_id": "x"}}'),
    lambda file: file.write_text("[" * 100_000),
    lambda file: file.write_bytes(os.urandom(1000)),
    lambda file: (file.unlink(), file.mkdir()),
    lambda file: (file.unlink(), file.symlink_to("/etc/passwd")),
]


@pytest.mark.parametrize("break_it", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_state_is_put_aside_and_the_agent_lives_on(scout: Agent, break_it: Callable[[Path], object]) -> None:
    break_it(scout.home / STATE_FILE)
    scout.ask()
    done = scout.turn()
    assert done.returncode == DONE, done.stderr
    assert scout.said() == ["answered"]
    assert "state put aside" in done.stderr
    assert os.path.lexists(scout.home / f"{STATE_FILE}.broken")
    assert Path("/etc/passwd").read_text().startswith("root:")


def test_an_empty_or_missing_state_is_none(scout: Agent) -> None:
    (scout.home / STATE_FILE).unlink()
    scout.ask()
    done = scout.turn()
    assert (done.returncode, scout.said()) == (DONE, ["answered"])
    assert "put aside" not in done.stderr


# Claude Code


KEY = "sk-ant-the-standins-secret"


@pytest.fixture
def api() -> Iterator[Standin]:
    with Standin() as api:
        yield api


class Thinker:
    """An agent that thinks with Claude Code."""

    def __init__(self, agent: Agent, api: Standin) -> None:
        self.agent, self.env = agent, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url}
        self.log = agent.home.with_suffix(".log")

    def turn(self) -> int:
        return self.agent.turn(env=self.env).returncode

    def begin(self) -> Process:
        return Process(self.agent.argv("turn"), self.log, self.env)


@pytest.fixture
def thinker(house: House, tmp_path: Path, api: Standin) -> Iterator[Thinker]:
    agent = house.agent(tmp_path, runner="claude", command=[], claude=str(claude_binary()), model="claude-test")
    yield Thinker(agent, api)
    assert not running(str(tmp_path))


def test_claude_remembers_the_channel_and_only_this_one(thinker: Thinker, api: Standin) -> None:
    api.script(text("noted"))
    for channel, body in ((thinker.agent.name, "the code word is juniper"), (thinker.agent.name, "and now?"), ("general", "hello")):
        thinker.agent.ask(body, channel=channel)
        assert thinker.turn() == DONE
    first, second, third = (prompt_text(request) for request in api.requests)
    assert "juniper" in first
    assert "juniper" in second
    assert second.count("juniper") == 1  # the session has it, the prompt needs not tell it again
    assert "and now?" in second
    assert "juniper" not in third
    assert thinker.agent.said() == ["noted", "noted"]


def test_after_a_restore_a_session_that_has_seen_higher_numbers_is_told_what_was_said(thinker: Thinker, api: Standin) -> None:
    api.script(text("noted"))
    agent = thinker.agent
    agent.ask("hello")
    assert thinker.turn() == DONE
    memory = agent.state
    memory.seen[agent.name] = 1000  # as if the colony had gone back to a backup since
    state.save(agent.home, STATE_FILE, memory)
    agent.house.ann.call(operations.POST, schema.PostMessage(channel=agent.name, body="the code word is willow"))
    agent.ask("and now?")
    assert thinker.turn() == DONE
    assert "willow" in prompt_text(api.requests[-1])
    assert agent.state.seen[agent.name] < 1000


def test_a_lost_session_is_left_for_a_fresh_one_that_is_told_more(thinker: Thinker, api: Standin) -> None:
    api.script(text("noted"))
    thinker.agent.ask("the code word is juniper")
    assert thinker.turn() == DONE
    shutil.rmtree(thinker.agent.home / ".claude" / "projects")
    thinker.agent.ask("and now?")
    assert thinker.turn() == DONE
    assert thinker.agent.said() == ["noted", "noted"]
    assert "and now?" in prompt_text(api.requests[-1])
    assert len(thinker.agent.state.sessions) == 1


def test_a_place_for_the_tools_that_somebody_has_taken_keeps_nobody_from_them(thinker: Thinker, api: Standin, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    folder = private_folder(f"turn {thinker.agent.home}")
    folder.rmdir()
    folder.symlink_to(theirs)
    api.script([tool("mcp__colony__whoami", {}), text("done")])
    try:
        thinker.agent.ask()
        assert thinker.turn() == DONE
        assert list(folder.parent.glob(f"{folder.name}*")) == [folder]  # its own was elsewhere, and is gone
    finally:
        folder.unlink()
    assert json.loads(tool_result(api.requests[-1]))["username"] == thinker.agent.name
    assert list(theirs.iterdir()) == []


def test_claude_posts_with_its_tools_as_the_agent_and_in_its_turn(house: House, thinker: Thinker, api: Standin) -> None:
    api.script([tool("mcp__colony__post", {"channel": "#general", "body": "news for all"}), text("done")])
    thinker.agent.ask()
    assert thinker.turn() == DONE
    turn = thinker.agent.turns()[0]
    posted = next(message for message in thinker.agent.messages("general") if message.author == thinker.agent.name)
    assert (posted.body, posted.turn_id, posted.hops) == ("news for all", turn.id, 1)
    assert json.loads(tool_result(api.requests[1]))["id"] == posted.id
    assert thinker.agent.said() == ["done"]
    assert house.rows("SELECT client_id FROM messages WHERE id = ?", posted.id) == [(f"{turn.id}:1.0",)]
    assert turn.tokens_in > 0
    [attempt] = house.ann.call(operations.TURN, schema.GetTurn(id=turn.id)).attempts
    assert (attempt.tools, attempt.prompt_characters > 100, attempt.cost_usd) == ({"post": 1}, True, turn.cost_usd)


def test_an_attempt_that_is_repeated_finds_its_own_post(thinker: Thinker, api: Standin) -> None:
    api.script([tool("mcp__colony__post", {"channel": thinker.agent.name, "body": "I look into it"}), hang()])
    thinker.agent.ask()
    with thinker.begin() as first:
        api.wait_for(2, 30)
        first.signal(signal.SIGKILL)
        first.wait()
    api.script([tool("mcp__colony__post", {"channel": thinker.agent.name, "body": "I look into it"}), text("done")])
    assert thinker.turn() == DONE
    assert thinker.agent.said() == ["I look into it", "done"]
    assert "interrupted" in prompt_text(api.requests[2])
    assert "This was posted before the turn was interrupted" in tool_result(api.requests[3])


@pytest.mark.parametrize(
    ("reply", "code", "seconds"),
    [(error(401), "credentials_rejected", 300), (error(429, retry_after_seconds=600), "rate_limited", 60)],
    ids=["401", "429"],
)
def test_trouble_with_the_api_holds_the_agent_and_counts_no_attempt(
    thinker: Thinker, api: Standin, reply: Reply, code: str, seconds: int
) -> None:
    api.script(reply)
    thinker.agent.ask()
    require_held(thinker, code, seconds)
    assert thinker.turn() == NOTHING
    assert thinker.agent.outcomes() == [None]


def test_an_allowance_that_is_used_up_for_days_is_asked_for_again_after_one(thinker: Thinker, api: Standin) -> None:
    del thinker.env["ANTHROPIC_API_KEY"]
    thinker.env["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-standin"
    reset = int(time.time()) + 400_000  # more than the colony waits at once
    headers = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": str(reset)}
    api.script(Failure(429, "rate_limit_error", "used up", headers))
    thinker.agent.ask()
    require_held(thinker, "rate_limited", 86_400)


def require_held(thinker: Thinker, code: str, seconds: int) -> None:
    before = datetime.now(UTC)
    assert thinker.turn() == FAILED
    turn, seen = thinker.agent.turns()[0], thinker.agent.seen
    assert (turn.state, turn.error_code, turn.failures) == ("resting", code, 0)
    assert seen.status == "healthy"
    assert failures.FAILURES[code].says in seen.status_note
    assert seen.held_until
    assert timedelta(seconds=seconds - 5) < seen.held_until - before < timedelta(seconds=seconds + 900)


def test_an_api_out_of_reach_holds_the_agent(thinker: Thinker) -> None:
    thinker.env["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:1"
    thinker.agent.ask()
    assert thinker.turn() == FAILED
    turn = thinker.agent.turns()[0]
    assert (turn.state, turn.error_code, turn.failures) == ("resting", "unreachable", 0)
    assert failures.UNREACHABLE.says in thinker.agent.seen.status_note


def test_a_turn_killed_with_its_group_leaves_no_process_and_no_obstacle(thinker: Thinker, api: Standin) -> None:
    api.script(hang())
    thinker.agent.ask()
    with thinker.begin() as turn:
        api.wait_for(1, 30)
        family = turn.family()
        os.killpg(turn.pid, signal.SIGKILL)
        turn.wait()
        wait_for(lambda: not living(family), "end of its processes")
    api.script([tool("mcp__colony__whoami", {}), text("done")])
    assert thinker.turn() == DONE
    assert thinker.agent.said() == ["done"]
    assert json.loads(tool_result(api.requests[-1]))["username"] == thinker.agent.name


def test_no_credential_is_in_a_command_line_and_the_agents_token_nowhere_but_in_its_masked_file(thinker: Thinker, api: Standin) -> None:
    api.script([tool("Bash", {"command": "env; cat .colony.toml; cat .colony-state.json; ls -a"}), text("done", delay_seconds=1)])
    thinker.agent.ask()
    with thinker.begin() as turn:
        api.wait_for(2, 30)
        family = [psutil.Process(turn.pid), *turn.family()]
        lines = [" ".join(process.cmdline()) for process in family]
        inside = [process.environ() for process in family if process.name() == "claude"]
        assert turn.wait() == DONE
        assert inside
        assert not any("COLONY" in name for environ in inside for name in environ)
        log = turn.log()
    secrets = (KEY, thinker.agent.token)
    assert not any(secret in line for line in [*lines, log] for secret in secrets)
    assert thinker.agent.token not in json.dumps([request.body for request in api.requests])
    written = [path for path in thinker.agent.home.rglob("*") if path.is_file() and path.name != ".colony.toml"]
    assert any(path.suffix == ".jsonl" for path in written)
    holders = [path for path in written if thinker.agent.token.encode() in path.read_bytes()]
    assert holders == []
