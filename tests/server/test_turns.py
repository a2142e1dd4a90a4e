"""Exactly one answer: claim, finish, fail, renew, and what happens when a process is lost in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from colony import errors, failures, operations, schema
from colony.client import Client
from server.config import ServerConfig
from server.models.claim import Terms
from server.models.inbox import inbox
from server.models.message import messages
from server.models.turn import turns
from tests.server.cast import token_of
from tests.server.support import Clock, Colony, only_sqlite

COUNTED = [failure for failure in failures.FAILURES.values() if failure.counted and not failure.permanent]
UNCOUNTED = [failure for failure in failures.FAILURES.values() if not failure.counted]
PERMANENT = [failure for failure in failures.FAILURES.values() if failure.permanent]
by_code = {"ids": lambda failure: failure.code}


def renew(colony: Colony, turn: schema.Turn, seconds: int = 60) -> schema.Lease:
    return colony.in_turn(turn).call(operations.RENEW, schema.RenewTurn(id=turn.id, lease_seconds=seconds))


def outcomes(colony: Colony, agent: str = "scout") -> list[str | None]:
    return [item.outcome for item in colony.items(agent)]


def notices(colony: Colony) -> list[schema.Message]:
    return [message for message in colony.read() if message.type == "notice"]


# --- claiming


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


def limited(database_url: str, clock: Clock, slots: int) -> Colony:
    return Colony(database_url, clock, ServerConfig(database_url, terms=Terms(slots=slots)))


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


# --- finishing


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
    colony.open_channel("garden")
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.post(colony.in_turn(turn), "elsewhere", channel="garden", client_id=f"{turn.id}:0")
    second = colony.turn(colony.scout, take_over=True)
    assert [message.body for message in second.posts] == ["elsewhere"]
    colony.post(colony.in_turn(second), "here", client_id=f"{turn.id}:1")
    colony.finish(second)
    assert outcomes(colony) == ["answered"]


def test_a_turn_that_spoke_only_elsewhere_has_ignored_its_channel(colony: Colony) -> None:
    colony.open_channel("garden")
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


def test_a_finished_turn_accepts_nothing_more(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.finish(turn, "done")
    with pytest.raises(errors.StaleTurn):
        colony.fail(turn)
    with pytest.raises(errors.StaleTurn):
        renew(colony, turn)
    with pytest.raises(errors.StaleTurn):
        colony.post(colony.in_turn(turn), "one more thing")
    assert outcomes(colony) == ["answered"]


@pytest.mark.parametrize("operation", ["post", "ack", "renew", "finish", "fail", "read"])
def test_an_attempt_that_was_taken_over_is_refused_whatever_it_asks(colony: Colony, operation: str) -> None:
    asked = colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    again = colony.turn(colony.scout, take_over=True)
    requests: dict[str, schema.Request] = {
        "post": schema.PostMessage(channel="general", body="stale"),
        "ack": schema.AckInbox(ids=[turn.items[0].id]),
        "renew": schema.RenewTurn(id=turn.id),
        "finish": schema.FinishTurn(id=turn.id, reply="stale"),
        "fail": schema.FailTurn(id=turn.id, code="crashed", permanent=True),
        "read": schema.ReadMessages(channel="general"),
    }
    with pytest.raises(errors.StaleTurn):
        colony.in_turn(turn).call(operations.OPERATIONS[operation], requests[operation])
    assert [message.id for message in colony.read()] == [asked.id]
    assert outcomes(colony) == [None]
    colony.finish(again, "in time")
    assert outcomes(colony) == ["answered"]


def test_a_turn_is_ended_only_with_its_own_attempt(colony: Colony) -> None:
    colony.post(colony.ann, "@scout @rook")
    mine, other = colony.turn(colony.scout), colony.turn(colony.rook)
    request = schema.FinishTurn(id=mine.id, reply="stolen")
    for client in (colony.scout, colony.in_turn(other), colony.client(token_of("rook"), f"{mine.id}.1"), colony.in_turn(mine, attempt=2)):
        with pytest.raises(errors.StaleTurn):
            client.call(operations.FINISH, request)
        with pytest.raises(errors.StaleTurn):
            client.call(operations.FAIL, schema.FailTurn(id=mine.id, code="crashed", permanent=True))
    assert outcomes(colony) == [None]


def test_a_reply_that_the_guard_stops_still_answers(colony: Colony) -> None:
    for n in range(20):
        colony.post(colony.rook, str(n))
    colony.post(colony.ann, "@scout hm")
    colony.finish(colony.turn(colony.scout), "fine @rook")
    assert outcomes(colony) == ["answered"]


# --- a lost process


def test_a_lease_that_ran_out_is_handed_out_again_as_the_next_attempt(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout, lease_seconds=60)
    colony.clock.advance(59.9)
    assert colony.claim(colony.scout).turn is None
    colony.clock.advance(0.1)
    again = colony.turn(colony.scout)
    assert (again.id, again.attempt, again.failures, again.error_code) == (turn.id, 2, 1, "lost")
    assert [item.attempts for item in again.items] == [2]
    with pytest.raises(errors.StaleTurn):
        colony.finish(turn, "too late")
    colony.finish(again, "in time")
    assert [reply.body for reply in colony.replies(turn.id)] == ["in time"]


def test_a_renewed_lease_lasts(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    for _ in range(5):
        colony.clock.advance(50)
        lease = renew(colony, turn)
        assert (lease.lease_until, lease.status) == (colony.clock.now + timedelta(seconds=60), "healthy")
        assert colony.claim(colony.scout).turn is None
    colony.clock.advance(60)
    assert colony.turn(colony.scout).attempt == 2


def test_an_expired_turn_that_nobody_took_over_may_still_finish(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.clock.advance(10_000)
    assert colony.finish(turn, "late, but first").state == "finished"
    assert len(colony.replies(turn.id)) == 1


def test_who_knows_that_the_process_is_gone_takes_over_at_once(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    again = colony.turn(colony.scout, take_over=True)
    assert (again.id, again.attempt) == (turn.id, 2)


def test_a_turn_lost_five_times_is_dead_with_one_notice(colony: Colony) -> None:
    asked = colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    for attempt, rest in ((2, 0), (3, 60), (4, 120), (5, 240)):
        claim = colony.claim(colony.scout, take_over=True)
        assert claim.retry_in_seconds == (rest or None)
        colony.clock.advance(rest)
        again = claim.turn or colony.turn(colony.scout)
        assert (again.attempt, again.failures, again.error_code) == (attempt, attempt - 1, "lost")
    claim = colony.claim(colony.scout, take_over=True)
    assert (claim.turn, claim.retry_in_seconds) == (None, None)
    assert outcomes(colony) == ["dead"]
    [notice] = notices(colony)
    assert failures.LOST.says in notice.body
    assert f"#{asked.seq}" in notice.body
    assert "@ann" in notice.body
    assert [item.trigger for item in colony.items("ann")] == ["mention"]
    assert colony.scout.call(operations.TURN, schema.GetTurn(id=turn.id)).state == "failed"


def test_a_turn_that_was_lost_after_it_failed_rests(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "crashed", retry_in_seconds=0)
    colony.turn(colony.scout)
    assert colony.claim(colony.scout, take_over=True).retry_in_seconds == 60
    assert not colony.heartbeat("scout").due
    colony.clock.advance(60)
    assert colony.heartbeat("scout").due
    assert colony.turn(colony.scout).attempt == 3


def test_a_turn_that_was_lost_once_does_not_keep_others_waiting(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.turn(colony.scout)
    colony.turn(colony.scout, take_over=True)
    colony.post(colony.ann, "@scout", channel=colony.open_channel("garden"))
    assert colony.turn(colony.scout, take_over=True).channel == "garden"


def test_a_lost_turn_frees_its_slot(database_url: str, clock: Clock) -> None:
    colony = limited(database_url, clock, 1)
    colony.post(colony.ann, "@scout @rook")
    colony.turn(colony.scout)
    clock.advance(60)
    assert colony.turn(colony.rook)
    claim = colony.claim(colony.scout)
    assert claim.turn is None
    assert claim.retry_in_seconds
    clock.advance(60)
    assert colony.turn(colony.scout).attempt == 2
    colony.close()


# --- failing


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


@pytest.mark.parametrize("failure", COUNTED, **by_code)
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
@pytest.mark.parametrize("failure", UNCOUNTED, **by_code)
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
    told = [f"scout has to wait with its answers: {failure.says} (`429`). What helps: {failure.remedy}."] * (failure.hold_seconds >= 60)
    assert [notice.body for notice in notices(colony)] == told  # once, however often it fails


def test_an_uncounted_failure_holds_the_whole_agent_until_it_succeeds(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "rate_limited", detail="resets at 13:00", retry_in_seconds=600)
    colony.post(colony.ann, "@scout", channel=colony.open_channel("garden"))
    claim = colony.claim(colony.scout)
    assert (claim.turn, claim.retry_in_seconds) == (None, 600)
    assert "resets at 13:00" in claim.reason
    assert not colony.heartbeat("scout").due
    [agent] = [each for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == "scout"]
    assert agent.held_until == colony.clock.now + timedelta(seconds=600)
    assert "resets at 13:00" in agent.status_note
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
@pytest.mark.parametrize(("code", "permanent"), [("crashed", True), ("rate_limited", False)])
def test_what_an_agent_says_of_its_failure_addresses_nobody(colony: Colony, detail: str, code: str, permanent: bool) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), code, detail=detail, permanent=permanent)
    [notice] = notices(colony)
    assert len(notice.body.splitlines()) == 1
    assert notice.body.count("`") == 2 + 2 * permanent  # then it names a command, too
    assert f"(`{' '.join(detail.replace('`', chr(39)).split())}`)" in notice.body
    assert [item.trigger for item in colony.items("ann")] == ["mention"] * permanent  # as the one who asked
    assert [colony.items(name) for name in ("bob", "rook")] == [[], []]


@pytest.mark.parametrize("detail", ["", failures.CRASHED.says])
def test_a_notice_says_nothing_twice(colony: Colony, detail: str) -> None:
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), detail=detail, permanent=True)
    [notice] = notices(colony)
    assert notice.body.count(failures.CRASHED.says) == 1
    assert notice.body.partition(" To try again:")[0].count("`") == 0


@pytest.mark.parametrize("failure", [*PERMANENT, failures.CRASHED, failures.RATE_LIMITED], **by_code)
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


def test_a_resting_turn_cannot_be_finished_or_posted_from(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.fail(turn)
    with pytest.raises(errors.StaleTurn):
        colony.finish(turn, "changed my mind")
    with pytest.raises(errors.StaleTurn):
        colony.post(colony.in_turn(turn), "hi")
    assert colony.replies(turn.id) == []


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


# --- pulses and dreams


@pytest.mark.parametrize("kind", ["pulse", "dream"])
def test_a_pulse_or_a_dream_needs_no_item_and_replies_nowhere(colony: Colony, kind: schema.TurnKind) -> None:
    turn = colony.turn(colony.scout, kind=kind)
    assert (turn.kind, turn.channel, turn.items, turn.context) == (kind, None, [], [])
    assert colony.finish(turn, "a thought").state == "finished"
    assert colony.read() == []


@pytest.mark.parametrize("kind", ["pulse", "dream"])
def test_a_failed_pulse_or_dream_is_not_tried_again_and_tells_nobody(colony: Colony, kind: schema.TurnKind) -> None:
    turn = colony.turn(colony.scout, kind=kind)
    assert colony.fail(turn, "crashed").state == "failed"
    assert colony.read() == []
    assert colony.turn(colony.scout, kind=kind).id != turn.id


def test_a_pulse_never_begins_beside_an_answer(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.clock.advance(120)
    for take_over in (False, True):
        assert colony.claim(colony.scout, kind="pulse", take_over=take_over).turn is None
    assert colony.finish(turn, "ok").state == "finished"


def test_a_pulse_waits_while_something_is_due_and_a_dream_does_not(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    claim = colony.claim(colony.scout, kind="pulse")
    assert (claim.turn, claim.reason) == (None, "who is asked something needs no pulse")
    assert colony.turns() == []
    colony.finish(colony.turn(colony.scout, kind="dream"))
    colony.fail(colony.turn(colony.scout), "crashed")  # it rests: nothing is due
    assert colony.turn(colony.scout, kind="pulse").kind == "pulse"


def test_a_lost_dream_makes_way_for_an_answer(colony: Colony) -> None:
    dream = colony.turn(colony.scout, kind="dream", lease_seconds=600)
    colony.post(colony.ann, "@scout")
    assert colony.claim(colony.scout).turn is None
    assert not colony.heartbeat("scout").due
    colony.clock.advance(600)
    assert colony.heartbeat("scout").due
    turn = colony.turn(colony.scout)
    assert turn.kind == "answer"
    assert colony.scout.call(operations.TURN, schema.GetTurn(id=dream.id)).state == "failed"


def test_a_pulse_is_held_as_answers_are(colony: Colony) -> None:
    colony.fail(colony.turn(colony.scout, kind="pulse"), "rate_limited", retry_in_seconds=60)
    assert colony.claim(colony.scout, kind="pulse").retry_in_seconds == 60
    colony.post(colony.ann, "@scout")
    assert colony.claim(colony.scout).turn is None


# --- looking at turns


def test_turns_are_listed_newest_first_and_by_agent(colony: Colony) -> None:
    ids = []
    for agent in (colony.scout, colony.rook, colony.scout):
        turn = colony.turn(agent, kind="pulse")
        colony.finish(turn)
        ids.append(turn.id)
    listed = colony.ann.call(operations.TURNS, schema.ListTurns()).turns
    assert [turn.id for turn in listed] == ids[::-1]
    assert [turn.id for turn in colony.ann.call(operations.TURNS, schema.ListTurns(agent="scout")).turns] == [ids[2], ids[0]]
    assert [turn.id for turn in colony.ann.call(operations.TURNS, schema.ListTurns(limit=1)).turns] == ids[2:]
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.TURNS, schema.ListTurns(agent="ann"))
    with pytest.raises(errors.NotFound):
        colony.ann.call(operations.TURN, schema.GetTurn(id=999))


def test_posts_claims_and_endings_of_many_agents_at_once_end_each_item_once(colony: Colony) -> None:
    """No deadlock, no crash, no double: the whole protocol under load."""
    rounds = 12

    def ask(author: Client) -> None:
        for n in range(rounds):
            colony.post(author, f"@scout @rook {n}")

    def answer(name: str) -> None:
        client = colony.client(token_of(name))
        while asking or colony.inbox(client):
            claim = colony.claim(client, take_over=True)
            if claim.turn and claim.turn.attempt % 2:
                colony.finish(claim.turn, "@apes ok")
            elif claim.turn:
                colony.fail(claim.turn, "stopped")

    asking = [True]
    with ThreadPoolExecutor(5) as pool:
        asks = [pool.submit(ask, author) for author in (colony.ann, colony.bob)]
        answers = [pool.submit(answer, name) for name in ("scout", "rook")]
        beats = pool.submit(lambda: [colony.heartbeat("scout") for _ in range(40)])
        for each in asks:
            each.result(60)
        asking.clear()
        for each in [*answers, beats]:
            each.result(60)
    assert colony.count(inbox, inbox.c.acked_at.is_(None), inbox.c.agent_id == colony.id_of("scout")) == 0
    assert colony.count(turns, turns.c.state != "finished") == 0
    seqs = [message.seq for message in colony.read()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert colony.count(messages, messages.c.client_id.like("%:reply")) == colony.count(turns)
