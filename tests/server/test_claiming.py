"""Claiming: which turn an agent gets, what the turn brings, and why there may be none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from colony import schema
from colony.client import Client
from server.models.turn import turns
from tests.server.cast import token_of
from tests.server.support import Clock, Colony
from tests.server.turns import limited, outcomes, renew


def test_with_nothing_to_do_there_is_no_turn_and_a_reason(colony: Colony) -> None:
    claim = colony.claim(colony.scout)
    assert (claim.turn, claim.reason, claim.retry_in_seconds) == (None, "nothing is due", None)
    assert not colony.heartbeat("scout").due


def test_a_turn_brings_its_items_and_what_was_said_before(colony: Colony) -> None:
    for n in range(12):
        colony.post(colony.ann, f"before {n}")
    colony.post(colony.ann, "@scout one")
    colony.post(colony.bob, "in between")
    colony.post(colony.bob, "@scout two")
    turn = colony.turn(colony.scout, lease_seconds=90)
    assert [item.message.body for item in turn.items] == ["@scout one", "@scout two"]
    assert [message.body for message in turn.context] == [*(f"before {n}" for n in range(3, 12)), "in between"]
    assert (turn.agent, turn.channel, turn.kind, turn.state, turn.attempt, turn.posts) == ("scout", "general", "answer", "running", 1, [])
    assert turn.lease_until == colony.clock.now + timedelta(seconds=90)
    assert [item.attempts for item in turn.items] == [1, 1]


def test_what_was_said_after_the_last_item_is_not_told(colony: Colony) -> None:
    colony.post(colony.ann, "@scout one")
    colony.post(colony.bob, "between")
    colony.post(colony.ann, "@scout two")
    colony.post(colony.bob, "after")
    colony.post(colony.ann, "elsewhere", channel=colony.open_channel("garden"))
    assert [message.body for message in colony.turn(colony.scout).context] == ["between"]
    assert [message.body for message in colony.turn(colony.scout, take_over=True).context] == ["between"]


def test_the_channel_that_waits_longest_comes_first(colony: Colony) -> None:
    colony.open_channel("garden")
    colony.open_channel("attic")
    for name in ("garden", "general", "attic", "general", "garden"):
        colony.post(colony.ann, f"@scout {name}", channel=name)
    seen = []
    for _ in range(3):
        turn = colony.turn(colony.scout)
        seen.append((turn.channel, len(turn.items)))
        colony.finish(turn, "ok")
    assert seen == [("garden", 2), ("general", 2), ("attic", 1)]
    assert colony.claim(colony.scout).turn is None


def test_a_turn_holds_at_most_twenty_messages(colony: Colony) -> None:
    for n in range(23):
        colony.post(colony.ann, f"@scout {n}")
    turn = colony.turn(colony.scout)
    assert [item.message.seq for item in turn.items] == list(range(1, 21))
    colony.finish(turn, "ok")
    assert [item.message.seq for item in colony.turn(colony.scout).items] == [21, 22, 23]


@pytest.mark.parametrize(
    ("sizes", "fits"), [((8000, 8000, 7), 2), ((8000, 8001), 1), ((60_000, 20), 1), ((20, 60_000, 20), 1), ((15_990, 10), 2)]
)
def test_a_turn_holds_at_most_16000_characters_but_always_a_message(colony: Colony, sizes: tuple[int, ...], fits: int) -> None:
    for size in sizes:
        colony.post(colony.ann, "é @scout".ljust(size, "."))
    turn = colony.turn(colony.scout)
    assert len(turn.items) == fits
    assert sum(len(item.message.body) for item in turn.items) <= 16_000 or fits == 1


def test_a_message_that_arrives_during_a_turn_waits_for_the_next(colony: Colony) -> None:
    colony.post(colony.ann, "@scout one")
    turn = colony.turn(colony.scout)
    colony.post(colony.ann, "@scout two")
    colony.finish(turn, "answer to one")
    assert outcomes(colony) == ["answered", None]
    assert [item.message.body for item in colony.turn(colony.scout).items] == ["@scout two"]


def test_an_agent_has_one_live_turn_even_if_many_processes_claim_at_once(colony: Colony) -> None:
    for name in ("general", colony.open_channel("garden")):
        colony.post(colony.ann, "@scout", channel=name)
    start = Barrier(16)

    def claim(_: int) -> schema.Claim:
        client = colony.client(token_of("scout"))
        start.wait()
        return colony.claim(client)

    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(claim, range(16)))
    taken = [found.turn for found in claims if found.turn]
    assert len(taken) == 1
    assert all("is running" in found.reason and found.retry_in_seconds == 60 for found in claims if not found.turn)
    assert colony.count(turns, turns.c.state == "running") == 1


@pytest.mark.parametrize("status", ["paused", "draining"])
def test_an_agent_that_is_not_healthy_gets_no_turn(colony: Colony, status: schema.Status) -> None:
    colony.post(colony.ann, "@scout")
    colony.set_status("scout", status)
    claim = colony.claim(colony.scout)
    assert (claim.turn, status in claim.reason) == (None, True)
    assert not colony.heartbeat("scout").due
    assert outcomes(colony) == [None]


def test_a_turn_that_runs_when_its_agent_is_paused_may_end(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.set_status("scout", "paused")
    assert renew(colony, turn).status == "paused"
    assert colony.finish(turn, "done").state == "finished"
    assert outcomes(colony) == ["answered"]


def test_no_more_turns_run_than_the_colony_has_slots(database_url: str, clock: Clock) -> None:
    colony = limited(database_url, clock, 1)
    colony.post(colony.ann, "@scout @rook")
    turn = colony.turn(colony.scout)
    refused = colony.claim(colony.rook)
    assert refused.turn is None
    assert refused.retry_in_seconds
    assert "1 turns" in refused.reason
    colony.finish(turn, "ok")
    assert colony.turn(colony.rook)
    colony.close()


def test_slots_hold_when_all_claim_at_once(database_url: str, clock: Clock) -> None:
    colony = limited(database_url, clock, 1)
    for _ in range(6):
        colony.post(colony.ann, "@scout @rook")
        start = Barrier(2)

        def claim(client: Client, start: Barrier = start) -> schema.Turn | None:
            start.wait()
            return colony.claim(client).turn

        with ThreadPoolExecutor(2) as pool:
            taken = [turn for turn in pool.map(claim, (colony.scout, colony.rook)) if turn]
        assert len(taken) == 1
        colony.finish(taken[0], "ok")
    colony.close()
