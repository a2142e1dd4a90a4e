"""Finishing: one answer, however often it is given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from colony import operations, schema
from tests.server.support import Colony
from tests.server.turns import outcomes


def test_a_reply_is_posted_once_however_often_the_turn_is_finished(colony: Colony) -> None:
    asked = colony.post(colony.ann, "@scout what is 6 × 7?")
    turn = colony.turn(colony.scout)
    usage = schema.Usage(tokens_in=10, tokens_out=5, cost_usd=0.25)
    first = colony.finish(turn, " 42\n", usage=usage, session_id="s1")
    again = colony.finish(turn, "43", usage=usage, session_id="s2")
    assert first == again
    assert (first.state, first.session_id, first.tokens_in, first.tokens_out, first.cost_usd) == ("finished", "s1", 10, 5, 0.25)
    assert first.finished_at == colony.clock.now
    [reply] = colony.replies(turn.id)
    assert (reply.body, reply.reply_to, reply.turn_id, reply.hops) == ("42", asked.id, turn.id, 1)
    assert [message.body for message in first.posts] == ["42"]
    assert outcomes(colony) == ["answered"]


def test_sixteen_finishes_at_once_post_one_reply(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    start = Barrier(16)

    def finish(n: int) -> schema.Turn:
        client = colony.in_turn(turn)
        start.wait()
        return client.call(operations.FINISH, schema.FinishTurn(id=turn.id, reply=f"answer {n}", usage=schema.Usage(tokens_in=1)))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(finish, range(16)))
    assert {answer.tokens_in for answer in answers} == {1}
    assert len(colony.replies(turn.id)) == 1


@pytest.mark.parametrize("reply", [None, "", "   \n", "HEARTBEAT_OK", "\n HEARTBEAT_OK \n"])
def test_a_turn_with_nothing_to_say_posts_nothing(colony: Colony, reply: str | None) -> None:
    colony.post(colony.ann, "@scout fyi")
    colony.finish(colony.turn(colony.scout), reply)
    assert outcomes(colony) == ["ignored"]
    assert len(colony.read()) == 1


def test_a_turn_that_spoke_in_its_channel_has_answered_without_a_final_reply(colony: Colony) -> None:
    colony.watch(colony.scout, colony.open_channel("garden"))
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.post(colony.in_turn(turn), "elsewhere", channel="garden", client_id=f"{turn.id}:0")
    second = colony.turn(colony.scout, take_over=True)
    assert [message.body for message in second.posts] == ["elsewhere"]
    colony.post(colony.in_turn(second), "here", client_id=f"{turn.id}:1")
    colony.finish(second)
    assert outcomes(colony) == ["answered"]


def test_a_turn_that_spoke_only_elsewhere_has_ignored_its_channel(colony: Colony) -> None:
    colony.watch(colony.scout, colony.open_channel("garden"))
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.post(colony.in_turn(turn), "elsewhere", channel="garden", client_id=f"{turn.id}:0")
    colony.finish(turn)
    assert outcomes(colony) == ["ignored"]


def test_a_replayed_post_of_a_later_attempt_finds_the_first(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    first = colony.post(colony.in_turn(turn), "step one @rook", client_id=f"{turn.id}:0")
    second = colony.turn(colony.scout, take_over=True)
    assert colony.post(colony.in_turn(second), "step one, reworded @rook", client_id=f"{turn.id}:0").id == first.id
    assert len(colony.items("rook")) == 1


def test_a_reply_that_the_guard_stops_still_answers(colony: Colony) -> None:
    for n in range(20):
        colony.post(colony.rook, str(n))
    colony.post(colony.ann, "@scout hm")
    colony.finish(colony.turn(colony.scout), "fine @rook")
    assert outcomes(colony) == ["answered"]
