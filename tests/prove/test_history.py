"""The judge: a history that keeps the promise passes, and each way to break it is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from colony import schema
from prove.history import History, Verdict, check
from prove.load import Asked

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
KINDS = ("lost", "twice", "unknown", "phantom", "gaps")


def message(id: int, seq: int, author: str, body: str, **more: Any) -> schema.Message:
    kind = {"ape1": "ape", "colony": "service"}.get(author, "agent")
    known = {"channel": "general", "author_kind": kind, "type": "notice" if author == "colony" else "text", "created_at": NOON}
    return schema.Message(id=id, seq=seq, author=author, body=body, **{**known, **more})


def asked(id: int | None, seq: int | None, body: str, *mentions: str) -> Asked:
    return Asked("ape1", "general", body, frozenset(mentions), id, seq)


def whole() -> History:
    """Three mentions in two messages: two answered, one given up; and a word to nobody."""
    return History(
        asked=[asked(1, 1, "@scout @rook one", "scout", "rook"), asked(2, 2, "@scout two", "scout"), asked(6, 5, "hm")],
        messages=[
            message(1, 1, "ape1", "@scout @rook one"),
            message(2, 2, "ape1", "@scout two"),
            message(3, 1, "scout", "aside of turn 7", channel="garden", turn_id=7),
            message(4, 3, "scout", "answer to 1 2", turn_id=7),
            message(5, 4, "colony", "@ape1 rook could not answer #1: its runner crashed (`#2`). What helps: see the agent's log."),
            message(6, 5, "ape1", "hm"),
        ],
        last_seqs={"general": 5, "garden": 1, "kitchen": 0},
        waiting={"scout": set(), "rook": set()},
        unfinished=[],
    )


def drop(history: History, id: int) -> None:
    history.messages[:] = [each for each in history.messages if each.id != id]


def add(history: History, author: str, body: str, **more: Any) -> None:
    history.last_seqs["general"] += 1
    history.messages.append(message(len(history.messages) + 1, history.last_seqs["general"], author, body, **more))


def test_a_whole_history_passes() -> None:
    verdict = check(whole())
    assert verdict == Verdict(answered=2, given_up=1)
    assert verdict.is_kept


def forget_a_post(history: History) -> None:
    drop(history, 6)
    history.last_seqs["general"] = 4


def renumber_a_post(history: History) -> None:
    history.asked[2] = asked(9, 5, "hm")


def forget_an_answer(history: History) -> None:
    history.messages[3] = message(4, 3, "scout", "answer to 1", turn_id=7)


def forget_a_notice(history: History) -> None:
    history.messages[4] = message(5, 4, "colony", "rook has to wait with its answer")


def forget_an_aside(history: History) -> None:
    drop(history, 3)
    history.last_seqs["garden"] = 0


def never_acknowledge(history: History) -> None:
    history.asked.append(asked(None, None, "hello?"))


def answer_again(history: History) -> None:
    add(history, "scout", "answer to 2", turn_id=8)
    add(history, "scout", "aside of turn 8", turn_id=8)


def answer_what_was_given_up(history: History) -> None:
    add(history, "rook", "answer to 1", turn_id=8)
    add(history, "rook", "aside of turn 8", turn_id=8)


def store_twice(history: History) -> None:
    add(history, "ape1", "hm")


def say_an_aside_twice(history: History) -> None:
    add(history, "scout", "aside of turn 7", turn_id=7)


def leave_open(history: History) -> None:
    forget_a_notice(history)
    history.waiting["rook"].add(1)


def answer_and_leave_open(history: History) -> None:
    history.waiting["scout"].add(2)


def leave_a_turn_running(history: History) -> None:
    history.unfinished.append(schema.Turn(id=9, agent="rook", kind="answer", state="running", attempt=1, lease_until=NOON, started_at=NOON))


def answer_for_another(history: History) -> None:
    add(history, "rook", "answer to 2", turn_id=8)
    add(history, "rook", "aside of turn 8", turn_id=8)


def answer_what_nobody_asked(history: History) -> None:
    add(history, "scout", "answer to 77", turn_id=7)


def speak_out_of_turn(history: History) -> None:
    add(history, "rook", "aside of turn 8", turn_id=9)


def babble(history: History) -> None:
    add(history, "scout", "la la la", turn_id=7)


def speak_as_an_ape(history: History) -> None:
    add(history, "ape1", "I never said this")


def leave_a_number_out(history: History) -> None:
    history.last_seqs["garden"] = 2


def give_a_number_twice(history: History) -> None:
    history.messages[5] = message(6, 4, "ape1", "hm")
    history.asked[2] = asked(6, 4, "hm")
    history.last_seqs["general"] = 4


@pytest.mark.parametrize(
    ("forge", "found"),
    [
        (forget_a_post, "lost"),
        (renumber_a_post, "lost"),
        (forget_an_answer, "lost"),
        (forget_a_notice, "lost"),
        (forget_an_aside, "lost"),
        (never_acknowledge, "lost"),
        (answer_again, "twice"),
        (answer_what_was_given_up, "twice"),
        (store_twice, "twice"),
        (say_an_aside_twice, "twice"),
        (leave_open, "unknown"),
        (answer_and_leave_open, "unknown"),
        (leave_a_turn_running, "unknown"),
        (answer_for_another, "phantom"),
        (answer_what_nobody_asked, "phantom"),
        (speak_out_of_turn, "phantom"),
        (babble, "phantom"),
        (speak_as_an_ape, "phantom"),
        (leave_a_number_out, "gaps"),
        (give_a_number_twice, "gaps"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_broken_promise_is_named(forge: Callable[[History], None], found: str) -> None:
    history = whole()
    forge(history)
    verdict = check(history)
    assert not verdict.is_kept
    assert {kind: len(evidence) for kind, evidence in verdict.violations.items()} == {kind: int(kind == found) for kind in KINDS}
