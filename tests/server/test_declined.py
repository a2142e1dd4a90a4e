"""Where an agent may not post: who mentions it there is told so, and no turn is spent on it."""

from __future__ import annotations

import pytest

from colony import operations, schema
from tests.server.rooms import wrong
from tests.server.support import Colony
from tests.server.test_approvals import held
from tests.server.turns import outcomes

GARDEN = "garden"


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout may not post in the garden."""
    colony.open_channel(GARDEN)
    put(colony, "deny")
    return colony


def put(colony: Colony, effect: schema.Effect) -> None:
    row = schema.SetAcl(principal="scout", action="post", scope=f"channel:{GARDEN}", effect=effect)
    colony.admin.call(operations.SET_ACL, row)


def notices(colony: Colony) -> list[str]:
    return [message.body for message in colony.read(GARDEN) if message.author == "colony"]


def test_a_mention_costs_no_turn_and_the_channel_hears_why(house: Colony) -> None:
    for body in ("@scout hello", "@scout are you there?"):
        house.post(house.ann, body, GARDEN)
    assert house.claim(house.scout).reason == "nothing is due"
    row = "scout may not post channel:garden: scout deny post channel:garden (by colony)"
    helps = "What helps: its owner or an administrator can change that with `colony acl`."
    assert notices(house) == [f"@ann scout could not answer #1, #2: it may not answer here (`{row}`). {helps}"]
    assert (outcomes(house), house.turns()) == (["dead", "dead"], [])
    assert house.claim(house.scout).turn is None
    assert len(notices(house)) == 1
    assert wrong(house) == []


def test_what_waits_elsewhere_is_worked_on_in_the_same_breath(house: Colony) -> None:
    house.post(house.ann, "@scout hello", GARDEN)
    house.post(house.ann, "@scout hello")
    assert house.turn(house.scout).channel == "general"
    assert outcomes(house) == ["dead", None]


def test_a_pulse_follows_where_nothing_else_is_left(house: Colony) -> None:
    house.post(house.ann, "@scout hello", GARDEN)
    assert house.turn(house.scout, kind="pulse").kind == "pulse"
    assert len(notices(house)) == 1


def test_what_it_watches_there_it_still_works_on(house: Colony) -> None:
    house.watch(house.scout, GARDEN)
    house.post(house.ann, "We ship on Friday.", GARDEN)
    house.post(house.ann, "@scout do you hear?", GARDEN)
    house.post(house.ann, "@agents all of you!", GARDEN)
    turn = house.turn(house.scout)
    assert [item.message.seq for item in turn.items] == [1, 3]
    assert house.finish(turn, "HEARTBEAT_OK").state == "finished"
    assert outcomes(house) == ["ignored", "dead", "ignored"]


def test_explain_names_the_row_as_long_as_it_is_there(house: Colony) -> None:
    asked = house.post(house.ann, "@scout @rook hello", GARDEN)

    def notes() -> list[str]:
        return house.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id)).notes

    says = "scout may not post channel:garden: scout deny post channel:garden (by colony)"
    assert notes() == [says]
    house.claim(house.scout)
    assert notes() == [says]
    house.admin.call(operations.DROP_ACL, schema.DropAcl(principal="scout", action="post", scope=f"channel:{GARDEN}"))
    assert notes() == []


def test_once_it_may_it_can_be_asked_again(house: Colony) -> None:
    asked = house.post(house.ann, "@scout hello", GARDEN)
    house.claim(house.scout)
    house.clock.advance(1)
    house.ann.call(operations.RETRY, schema.RetryMessage(id=asked.id))
    house.claim(house.scout)
    assert len(notices(house)) == 2, "each time it is told"
    put(house, "allow")
    house.ann.call(operations.RETRY, schema.RetryMessage(id=asked.id))
    house.finish(house.turn(house.scout), "hello yourself")
    [fate] = house.ann.call(operations.EXPLAIN, schema.ExplainMessage(id=asked.id)).fates
    assert (fate.outcome, [again.outcome for again in fate.retries]) == ("answered", ["dead", "dead"])


def test_who_is_denied_it_while_the_turn_runs_gives_its_answer_up(house: Colony) -> None:
    put(house, "allow")
    house.post(house.ann, "@scout hello", GARDEN)
    turn = house.turn(house.scout)
    put(house, "deny")
    resumed = house.turn(house.scout, take_over=True)
    assert resumed.id == turn.id
    ended = house.finish(resumed, "hello yourself", usage=schema.Usage(cost_usd=0.25))
    assert (ended.state, ended.error_code, ended.cost_usd) == ("failed", "forbidden", 0.25)
    assert "it may not answer here (`scout may not post channel:garden: scout deny" in notices(house)[-1]
    assert outcomes(house) == ["dead"]


def test_where_its_posts_are_held_it_can_ask_and_its_answer_is_given_up(house: Colony) -> None:
    put(house, "hold")
    house.post(house.ann, "@scout hello", GARDEN)
    turn = house.turn(house.scout)
    held(house, house.in_turn(turn), "may I?", channel=GARDEN, is_told=True)
    assert house.finish(turn, "hello yourself").error_code == "forbidden"
    assert "scout hold post channel:garden" in notices(house)[-1]


def test_another_agent_that_mentions_it_is_not_woken_by_the_notice(house: Colony) -> None:
    house.watch(house.rook, GARDEN)
    house.post(house.rook, "@scout hello", GARDEN)
    house.claim(house.scout)
    assert notices(house)[0].startswith("scout could not answer #1: it may not answer here")
    assert house.inbox(house.rook) == []
