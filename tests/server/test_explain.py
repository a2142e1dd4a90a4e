"""What became of a message: every way an item can end, who was not woken and why, and what each attempt took."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest

from colony import errors, operations, schema
from server.models.attempt import attempts
from server.models.explain import CUT_CHARACTERS, MAX_FATES
from server.models.turn import turns
from tests.server.support import Colony, only_sqlite

USAGE = schema.Usage(tokens_in=10, tokens_out=5, cost_usd=0.25, prompt_characters=400, tools={"Bash": 2, "post": 1})


def explain(colony: Colony, message: schema.Message | int) -> schema.Explanation:
    message_id = message if isinstance(message, int) else message.id
    return colony.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=message_id))


def fate_of(colony: Colony, message: schema.Message, receiver: str = "scout") -> schema.Fate:
    [fate] = [fate for fate in explain(colony, message).fates if fate.receiver == receiver]
    return fate


def ask(colony: Colony, body: str = "@scout hello") -> schema.Message:
    return colony.post(colony.ann, body)


# --- how an item can end: one function for each way


def answered(colony: Colony) -> schema.Message:
    asked = ask(colony)
    colony.finish(colony.turn(colony.scout), "42")
    return asked


def answered_by_a_post(colony: Colony) -> schema.Message:
    asked = ask(colony)
    turn = colony.turn(colony.scout)
    colony.post(colony.in_turn(turn), "42", client_id=f"{turn.id}:0")
    colony.finish(turn)
    return asked


def ignored(colony: Colony) -> schema.Message:
    asked = ask(colony)
    colony.finish(colony.turn(colony.scout), "HEARTBEAT_OK")
    return asked


def suppressed(colony: Colony) -> schema.Message:
    for n in range(20):
        colony.post(colony.rook, str(n))
    return colony.post(colony.rook, "@scout hm")


def dead_after_five_failures(colony: Colony) -> schema.Message:
    asked = ask(colony)
    for _ in range(5):
        colony.fail(colony.turn(colony.scout), "crashed", detail="exit code 1", usage=USAGE)
        colony.clock.advance(3600)
    return asked


def dead_at_once(colony: Colony) -> schema.Message:
    asked = ask(colony)
    colony.fail(colony.turn(colony.scout), "prompt_too_long")
    return asked


def dead_with_its_agent(colony: Colony) -> schema.Message:
    asked = ask(colony)
    colony.turn(colony.scout)
    colony.set_status("scout", "draining")
    colony.set_status("scout", "dead")
    return asked


def stopped(colony: Colony) -> schema.Message:
    asked = ask(colony)
    colony.ann.call(operations.STOP, schema.StopTurn(id=colony.turn(colony.scout).id))
    return asked


def closed_by_hand(colony: Colony) -> schema.Message:
    asked = ask(colony)
    colony.scout.call(operations.ACK, schema.AckInbox(ids=[item.id for item in colony.inbox(colony.scout)]))
    return asked


ENDS = {
    answered: "answered",
    answered_by_a_post: "answered",
    ignored: "ignored",
    suppressed: "suppressed",
    dead_after_five_failures: "dead",
    dead_at_once: "dead",
    dead_with_its_agent: "dead",
    stopped: "dead",
    closed_by_hand: "by_hand",
}


def test_these_are_all_outcomes() -> None:
    assert set(ENDS.values()) == set(get_args(schema.Outcome))


@pytest.mark.parametrize(("end", "outcome"), ENDS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_every_end_of_an_item_is_explained(colony: Colony, end: object, outcome: schema.Outcome) -> None:
    asked = end(colony)  # type: ignore[operator]
    found = explain(colony, asked)
    [fate] = found.fates
    assert (fate.receiver, fate.receiver_kind, fate.trigger, fate.outcome) == ("scout", "agent", "mention", outcome)
    assert fate.acked_at is not None
    assert fate.waits_for == ""
    assert [turn.id for turn in found.turns] == ([fate.turn_id] if fate.turn_id else [])
    notices = [message for message in colony.read() if message.type == "notice"]
    assert len(notices) == (outcome in ("dead", "suppressed")), "who gets no answer is told why, once"
    if outcome == "dead":
        assert f"#{asked.seq}" in notices[0].body
    if outcome == "suppressed":
        assert any("scout" in note and "loop guard" in note for note in found.notes)


# --- turns


def test_each_attempt_is_told_with_its_error_its_time_and_what_it_took(colony: Colony) -> None:
    asked = ask(colony)
    turn = colony.turn(colony.scout)
    colony.clock.advance(12)
    colony.fail(turn, "crashed", detail="exit code 1", usage=USAGE)
    colony.clock.advance(30)
    turn = colony.turn(colony.scout)
    colony.clock.advance(40)
    colony.finish(turn, "42", usage=USAGE)
    [shown] = explain(colony, asked).turns
    assert (shown.kind, shown.state, shown.attempt, shown.cost_usd, shown.items) == ("answer", "finished", 2, 0.5, [])
    first, second = shown.attempts
    assert (first.number, first.seconds, first.error_code, first.error) == (1, 12, "crashed", "exit code 1")
    assert (second.number, second.seconds, second.error_code, second.error) == (2, 40, None, None)
    assert second.began_at == colony.clock.now.replace(microsecond=0) - (second.ended_at - second.began_at)
    for attempt in (first, second):
        assert (attempt.prompt_characters, attempt.tools, attempt.tokens_in, attempt.tokens_out) == (400, {"Bash": 2, "post": 1}, 10, 5)
    assert colony.ann.call(operations.TURN, schema.GetTurn(id=turn.id)).attempts == [first, second]
    assert [post.body for post in shown.posts] == ["42"]


def test_a_lost_attempt_is_told_and_an_error_names_its_remedy(colony: Colony) -> None:
    asked = ask(colony)
    colony.turn(colony.scout)
    colony.turn(colony.scout, take_over=True)
    found = explain(colony, asked)
    [shown] = found.turns
    assert [(attempt.number, attempt.error_code) for attempt in shown.attempts] == [(1, "lost")]
    assert (shown.state, shown.error_code) == ("running", "lost")
    assert "agent's log" in (shown.remedy or "")
    assert found.fates[0].waits_for == f"scout works on it in turn {shown.id}"


def test_only_the_newest_attempts_of_a_turn_that_waited_for_long_are_told(colony: Colony) -> None:
    asked = ask(colony)
    for _ in range(25):
        colony.fail(colony.turn(colony.scout), "rate_limited", retry_in_seconds=0)
    assert [attempt.number for attempt in explain(colony, asked).turns[0].attempts] == list(range(6, 26))
    assert colony.count(attempts) == 25


def test_an_answer_says_what_it_answers(colony: Colony) -> None:
    asked = [ask(colony), colony.post(colony.bob, "@scout and this")]
    turn = colony.turn(colony.scout)
    colony.watch(colony.scout, colony.open_channel("garden"))
    aside = colony.post(colony.in_turn(turn), "look there", channel="garden", client_id=f"{turn.id}:0")
    answer = colony.finish(turn, "x" * 1000).posts[-1]
    for message in (answer, aside):
        found = explain(colony, message)
        assert [message.id for message in found.answers] == [message.id for message in asked]
        assert [turn.id for turn in found.turns] == [turn.id]
    assert explain(colony, answer).message.body == "x" * 1000
    assert explain(colony, asked[0]).turns[0].posts[-1].body == "x" * CUT_CHARACTERS + "…"


def test_a_late_report_of_an_attempt_that_others_ended_counts_once(colony: Colony) -> None:
    asked = ask(colony)
    turn = colony.turn(colony.scout)
    colony.ann.call(operations.STOP, schema.StopTurn(id=turn.id))
    for _ in range(2):
        assert colony.fail(turn, "stopped", usage=USAGE).state == "failed"
    [shown] = explain(colony, asked).turns
    assert (shown.cost_usd, shown.error_code) == (0.25, "cancelled")
    assert [(attempt.error_code, attempt.cost_usd) for attempt in shown.attempts] == [("cancelled", 0.25)]


# --- why it waits


def test_what_a_message_waits_for_is_told(colony: Colony) -> None:
    for agent in ("scout", "rook"):
        colony.heartbeat(agent)
    asked = ask(colony)
    assert fate_of(colony, asked).waits_for == ""
    colony.clock.advance(121)
    assert fate_of(colony, asked).waits_for == "scout is silent"
    colony.heartbeat("scout")
    colony.set_status("scout", "paused", "lunch")
    assert fate_of(colony, asked).waits_for == "scout is paused: lunch"
    colony.set_status("scout", "healthy")
    turn = colony.turn(colony.scout)
    later = ask(colony)
    assert fate_of(colony, later).waits_for == f"scout works on turn {turn.id} first"
    colony.clock.advance(61)
    colony.heartbeat("scout")
    assert fate_of(colony, asked).waits_for == f"turn {turn.id} has lost contact"
    colony.fail(turn, "crashed")
    rests = fate_of(colony, asked)
    assert (rests.waits_for, rests.not_before) == ("", colony.clock.now + timedelta(seconds=30))
    colony.clock.advance(31)
    colony.heartbeat("scout")
    assert fate_of(colony, asked).not_before is None, "it is over"
    colony.fail(colony.turn(colony.scout), "rate_limited", detail="resets at 13:00")
    helps = "What helps: it tries again by itself"
    assert fate_of(colony, later).waits_for == f"scout has to wait: the model's API limits its rate. {helps}", "and no word of what it said"


# --- why somebody was not woken


def notes(colony: Colony, message: schema.Message) -> str:
    return "\n".join(explain(colony, message).notes)


def test_who_was_not_woken_is_told_with_the_reason(colony: Colony) -> None:
    colony.set_status("rook", "draining")
    colony.set_status("rook", "dead")
    told = notes(colony, ask(colony, "@scout @rook @scuot @ann `@bob`"))
    assert told.splitlines() == [
        "ann wrote it: nobody is woken by their own message",
        "rook has left the colony",
        "nobody here is called scuot",
        "@bob stands in code, which mentions nobody",
    ]
    assert notes(colony, ask(colony, "hello")) == "it mentions nobody, and nobody watches #general"
    assert notes(colony, ask(colony, "@apes hello")) == ""
    assert notes(colony, ask(colony, "ann@example.org `@agents`")) == "it mentions nobody, and nobody watches #general"


def test_a_notice_says_that_it_wakes_no_agent(colony: Colony) -> None:
    dead_at_once(colony)
    found = explain(colony, colony.read()[-1])
    assert found.notes == ["it is a notice: those wake no agent"]
    assert [(fate.receiver, fate.outcome) for fate in found.fates] == [("ann", None)]


def test_a_message_for_a_crowd_shows_the_first_and_counts_the_others(colony: Colony) -> None:
    for n in range(MAX_FATES):
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=f"ape-{n}", kind="ape"))
    found = explain(colony, ask(colony, "@apes"))
    assert (len(found.fates), found.left_out) == (MAX_FATES, 1)


@only_sqlite
def test_what_is_not_there_is_not_explained(colony: Colony) -> None:
    with pytest.raises(errors.NotFound, match="999"):
        explain(colony, 999)


def test_an_upgraded_turn_without_the_time_of_its_attempt_is_explained(colony: Colony) -> None:
    asked = ask(colony)
    turn = colony.turn(colony.scout)
    colony.gate.database.write(lambda connection: connection.execute(turns.update().values(attempt_began_at=None)))
    colony.clock.advance(5)
    colony.finish(turn, "ok")
    assert explain(colony, asked).turns[0].attempts[0].seconds == 5
