"""Failing: who rests and for how long, what is final, and what the channel is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from colony import errors, failures, operations, schema
from server.config import ServerConfig
from server.models.claim import Terms
from server.models.turn import turns
from tests.server.support import Clock, Colony, only_sqlite
from tests.server.turns import notices, outcomes

COUNTED = [failure for failure in failures.FAILURES.values() if failure.counted and not failure.permanent]
UNCOUNTED = [failure for failure in failures.FAILURES.values() if not failure.counted]
PERMANENT = [failure for failure in failures.FAILURES.values() if failure.permanent]


def code_of(failure: failures.Failure) -> str:
    return failure.code


def test_counted_failures_rest_longer_each_time_and_the_fifth_is_final(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    for attempt, rest in enumerate((30, 60, 120, 240), start=1):
        turn = colony.turn(colony.scout)
        assert turn.attempt == attempt
        failed = colony.fail(turn, "crashed", detail="exit code 1", usage=schema.Usage(tokens_in=3))
        assert (failed.state, failed.failures, failed.error_code, failed.error) == ("resting", attempt, "crashed", "exit code 1")
        assert colony.inbox(colony.scout)[0].not_before == colony.clock.now + timedelta(seconds=rest)
        colony.clock.advance(rest - 1)
        claim = colony.claim(colony.scout)
        assert (claim.turn, claim.retry_in_seconds) == (None, 1)
        colony.clock.advance(1)
    last = colony.fail(colony.turn(colony.scout), "timed_out", detail="600 s", usage=schema.Usage(tokens_in=3))
    assert (last.state, last.failures, last.tokens_in) == ("failed", 5, 15)
    assert outcomes(colony) == ["dead"]
    [notice] = notices(colony)
    assert failures.TIMED_OUT.says in notice.body
    assert failures.TIMED_OUT.remedy in notice.body
    assert "600 s" in notice.body
    assert colony.claim(colony.scout).turn is None


def test_the_first_backoff_can_be_chosen(database_url: str, clock: Clock) -> None:
    colony = Colony(database_url, clock, ServerConfig(database_url, Terms(first_backoff_seconds=0.5)))
    try:
        colony.post(colony.ann, "@scout")
        turn = colony.turn(colony.scout)
        for seconds in (0.5, 1, 2, 4):
            colony.fail(turn)
            assert colony.claim(colony.scout).retry_in_seconds == seconds
            clock.advance(seconds)
            turn = colony.turn(colony.scout)
        assert colony.claim(colony.scout, take_over=True).turn is None
        assert outcomes(colony) == ["dead"]
    finally:
        colony.close()


def test_backoff_grows_from_thirty_seconds_to_an_hour() -> None:
    assert [failures.backoff_seconds(n) for n in range(1, 10)] == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert failures.backoff_seconds(10**9) == 3600


@pytest.mark.parametrize("failure", COUNTED, ids=code_of)
def test_each_counted_failure_rests_and_holds_only_its_turn(colony: Colony, failure: failures.Failure) -> None:
    colony.post(colony.ann, "@scout", channel=colony.open_channel("garden"))
    colony.fail(colony.turn(colony.scout), failure.code)
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    assert turn.channel == "general"
    colony.finish(turn, "ok")
    colony.clock.advance(30)
    assert colony.turn(colony.scout).attempt == 2


@only_sqlite
@pytest.mark.parametrize("failure", UNCOUNTED, ids=code_of)
def test_an_uncounted_failure_may_happen_for_ever(colony: Colony, failure: failures.Failure) -> None:
    colony.post(colony.ann, "@scout")
    for attempt in range(1, 13):
        turn = colony.turn(colony.scout)
        assert (turn.attempt, turn.failures) == (attempt, 0)
        assert colony.fail(turn, failure.code, detail="429").state == "resting"
        colony.clock.advance(failure.hold_seconds)
    turn = colony.turn(colony.scout)
    colony.finish(turn, "at last")
    assert outcomes(colony) == ["answered"]
    told = [f"scout has to wait with its answers: {failure.says}. What helps: {failure.remedy}."] * (failure.hold_seconds >= 60)
    assert [notice.body for notice in notices(colony)] == told  # once, however often it fails


def test_an_uncounted_failure_holds_the_whole_agent_until_it_succeeds(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "rate_limited", detail="resets at 13:00", retry_in_seconds=600)
    colony.post(colony.ann, "@scout", channel=colony.open_channel("garden"))
    claim = colony.claim(colony.scout)
    assert (claim.turn, claim.retry_in_seconds) == (None, 600)
    assert claim.reason.startswith("the model's API limits its rate")
    assert not colony.heartbeat("scout").due
    [agent] = [each for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == "scout"]
    assert agent.held_until == colony.clock.now + timedelta(seconds=600)
    assert agent.status_note == claim.reason
    assert (agent.inbox, agent.status) == (2, "healthy")
    colony.clock.advance(600)
    assert colony.heartbeat("scout").due
    colony.finish(colony.turn(colony.scout), "ok")
    [agent] = [each for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == "scout"]
    assert (agent.held_until, agent.status_note, agent.inbox) == (None, "", 1)


@only_sqlite
@pytest.mark.parametrize(("seconds", "count"), [(0, 0), (59, 0), (60, 1), (86_400, 1)])
def test_only_a_wait_that_people_would_wonder_about_is_told(colony: Colony, seconds: int, count: int) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "overloaded", retry_in_seconds=seconds)
    assert len(notices(colony)) == count
    assert colony.items("ann") == []  # nobody needs to do anything


def test_an_uncounted_failure_of_a_pulse_or_a_dream_is_told_nowhere(colony: Colony) -> None:
    for kind in ("pulse", "dream"):
        colony.fail(colony.turn(colony.scout, kind=kind), "rate_limited", retry_in_seconds=600)
        colony.clock.advance(600)
    assert colony.read() == []


def test_items_are_due_as_soon_as_a_hold_ends_however_it_ends(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "credentials_rejected", retry_in_seconds=3600)
    assert colony.inbox(colony.scout)[0].not_before == colony.clock.now
    assert colony.claim(colony.scout).retry_in_seconds == 3600
    colony.set_status("scout", "paused")
    colony.set_status("scout", "healthy")  # its operator has given it a valid key
    assert colony.heartbeat("scout").due
    assert colony.turn(colony.scout).attempt == 2


DETAILS = [
    "boom. @apes run",
    "`@apes`",
    "``` @apes",
    "\n\n@apes @ann",
    "\n```\n@apes\n```\n@apes",
    "\\` @apes \\",
    "> @apes\u2028- @agents\x85@rook",
]


@only_sqlite
@pytest.mark.parametrize("detail", DETAILS)
def test_what_an_agent_says_of_its_failure_addresses_nobody(colony: Colony, detail: str) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), detail=detail, permanent=True)
    [notice] = notices(colony)
    assert len(notice.body.splitlines()) == 1
    assert notice.body.count("`") == 4  # it names a command, too
    assert f"(`{' '.join(detail.replace('`', chr(39)).split())}`)" in notice.body
    assert [item.trigger for item in colony.items("ann")] == ["mention"]  # as the one who asked
    assert [colony.items(name) for name in ("bob", "rook")] == [[], []]


@pytest.mark.parametrize("detail", ["", failures.CRASHED.says])
def test_a_notice_says_nothing_twice(colony: Colony, detail: str) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), detail=detail, permanent=True)
    [notice] = notices(colony)
    assert notice.body.count(failures.CRASHED.says) == 1
    assert notice.body.partition(" To try again:")[0].count("`") == 0


@pytest.mark.parametrize("failure", [*PERMANENT, failures.CRASHED, failures.RATE_LIMITED], ids=code_of)
def test_a_permanent_failure_is_final_at_once(colony: Colony, failure: failures.Failure) -> None:
    for author in (colony.ann, colony.bob, colony.rook):
        colony.post(author, "@scout")
    turn = colony.turn(colony.scout)
    request = {"permanent": True} if not failure.permanent else {}
    for _ in range(2):  # a repetition changes nothing
        assert colony.fail(turn, failure.code, **request).state == "failed"
    assert outcomes(colony) == ["dead"] * 3
    [notice] = notices(colony)
    assert notice.body.startswith("@ann @bob ")
    assert "#1, #2, #3" in notice.body
    assert colony.items("rook") == []  # no notice wakes an agent
    with pytest.raises(errors.StaleTurn):
        colony.finish(turn, "but I have it")


def test_a_repeated_fail_counts_once(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    first = colony.fail(turn, usage=schema.Usage(cost_usd=1.0))
    colony.clock.advance(10)
    again = colony.fail(turn, usage=schema.Usage(cost_usd=1.0))
    assert first == again
    assert (again.failures, again.cost_usd) == (1, 1.0)


def test_an_unknown_failure_is_refused_with_the_known_ones(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    with pytest.raises(errors.Invalid, match=r"code: .*rate_limited"):
        colony.fail(turn, "bored")
    assert colony.scout.call(operations.TURN, schema.GetTurn(id=turn.id)).state == "running"


def test_how_long_a_turn_rests_can_be_said(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "crashed", retry_in_seconds=7)
    colony.clock.advance(6)
    assert colony.claim(colony.scout).retry_in_seconds == 1
    colony.clock.advance(1)
    assert colony.turn(colony.scout).attempt == 2


def test_a_notice_does_not_count_the_items_that_a_hand_has_closed(colony: Colony) -> None:
    for _ in range(2):
        colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.scout.call(operations.ACK, schema.AckInbox(ids=[turn.items[0].id]))
    colony.fail(turn, permanent=True)
    assert outcomes(colony) == ["by_hand", "dead"]
    [notice] = notices(colony)
    assert "#2" in notice.body
    assert "#1" not in notice.body


def test_a_turn_whose_items_were_all_closed_by_hand_does_not_rest_for_ever(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.fail(turn)
    colony.scout.call(operations.ACK, schema.AckInbox(ids=[turn.items[0].id]))
    colony.clock.advance(3600)
    assert colony.claim(colony.scout).turn is None
    assert colony.count(turns, turns.c.state == "resting") == 0


def test_a_second_attempt_shows_only_what_is_still_open(colony: Colony) -> None:
    for n in range(2):
        colony.post(colony.ann, f"@scout {n}")
    turn = colony.turn(colony.scout)
    colony.scout.call(operations.ACK, schema.AckInbox(ids=[turn.items[0].id]))
    assert [item.message.body for item in colony.turn(colony.scout, take_over=True).items] == ["@scout 1"]


def test_an_agent_that_dies_leaves_no_item_without_an_end(colony: Colony) -> None:
    colony.post(colony.ann, "@scout one")
    colony.turn(colony.scout)
    colony.post(colony.bob, "@scout two")
    colony.set_status("scout", "draining")
    colony.set_status("scout", "dead")
    assert outcomes(colony) == ["dead", "dead"]
    assert colony.count(turns, turns.c.state.in_(["running", "resting"])) == 0
    assert "@ann" in notices(colony)[0].body
