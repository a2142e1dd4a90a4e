"""Turns as real processes against the real server, with a small program for a brain."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest

from colony import failures, operations, schema
from colony.client import Client
from tests.colony_agent.agents import DONE, FAILED, NOTHING, Agent, House, claim, wait_for
from tests.colony_agent.brains import HANGS_FIRST
from tests.colony_agent.cast import new_mark, running


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


def test_where_the_agent_may_not_post_nothing_runs_and_the_channel_is_told(scout: Agent) -> None:
    deny = schema.SetAcl(principal=scout.name, action="post", scope=f"channel:{scout.name}", effect="deny")
    scout.house.admin.call(operations.SET_ACL, deny)
    scout.ask()
    assert scout.turn().returncode == NOTHING
    assert (scout.runs(), scout.turns(), scout.outcomes()) == (0, [], ["dead"])
    notice = scout.messages()[-1].body
    assert f"it may not answer here (`{scout.name} may not post channel:{scout.name}: " in notice
    drop = schema.DropAcl(principal=deny.principal, action=deny.action, scope=deny.scope)
    scout.house.admin.call(operations.DROP_ACL, drop)
    scout.ask("and now?")
    assert scout.turn().returncode == DONE
    assert scout.said() == ["answered"]


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


def test_a_program_holds_the_secrets_that_people_let_it_hold_and_nobody_reads_them(house: House, scout: Agent) -> None:
    for name, more in (("HELD", {"hosts": [], "as_environment": True}), ("BOUND", {"hosts": ["api.example"]})):
        house.admin.call(operations.SET_SECRET, schema.SetSecret(name=name, value=f"the-value-of-{name}", agent=scout.name, **more))
    scout.settle('echo "${#HELD} $BOUND $HELD"')
    scout.ask()
    assert scout.turn().returncode == DONE
    length, bound, held = scout.said()[-1].split()
    assert (length, held) == (str(len("the-value-of-HELD")), "*" * len("the-value-of-HELD"))
    assert bound.startswith("colony-secret-BOUND-")
    scout.settle('echo "no such key: $HELD" >&2; exit 1')
    scout.ask()
    ran = scout.turn()
    assert ran.returncode == FAILED
    assert "no such key: *****************" in ran.stderr
    assert "the-value-of-HELD" not in ran.stderr


def test_an_agent_that_says_its_honeytoken_is_stopped(house: House, scout: Agent) -> None:
    scout.settle('echo "found $(cat /run/secrets/colony-admin-token)"')
    message = scout.ask("what can you find?")
    ran = scout.turn()
    assert "answer came too late" in ran.stderr
    [agent] = [each for each in house.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == scout.name]
    assert (agent.status, agent.status_note) == ("paused", "it was about to give its honeytoken away: see #ops")
    said = house.ann.call(operations.READ, schema.ReadMessages(channel=scout.name, since=message.seq)).messages
    assert "it was about to give away a token" in said[-1].body
    assert "colony-admin-" not in " ".join(each.body for each in said)
    assert scout.turn().returncode == NOTHING
