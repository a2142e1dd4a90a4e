"""What agents and the colony may use: dollars a day, turns an hour, posts in a turn."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.config import ServerConfig
from server.models.attempt import OVERSHOOT
from server.models.claim import Terms
from server.models.limits import Limits
from server.models.turn import turns
from tests.server.support import Clock, Colony, only_sqlite


@pytest.fixture
def housed(database_url: str, clock: Clock) -> Callable[..., Colony]:
    """Makes a colony with limits of its own."""

    def make(slots: int = 32, turn_usd: float = 1.0, **limits: Any) -> Colony:
        return Colony(database_url, clock, ServerConfig(database_url, terms=Terms(slots, Limits(**limits), turn_usd)))

    return make


def limit(colony: Colony, agent: str = "scout", **limits: Any) -> schema.Agent:
    return colony.admin.call(operations.SET_LIMITS, schema.SetLimits(agent=agent, **limits))


def notices(colony: Colony, channel: str = "general") -> list[str]:
    return [message.body for message in colony.read(channel) if message.type == "notice"]


def agent(colony: Colony, name: str = "scout") -> schema.Agent:
    return next(each for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == name)


def cost(usd: float | None) -> schema.Usage:
    return schema.Usage(cost_usd=usd)


# --- dollars


def test_a_turn_reserves_what_it_may_cost_and_gives_back_what_it_did_not(colony: Colony) -> None:
    limit(colony, budget_usd_per_day=2.5)
    for reserved, spent in ((1.0, 0.9), (1.0, 0.9), (0.7, 0.65)):
        colony.post(colony.ann, "@scout")
        turn = colony.turn(colony.scout)
        assert turn.reserved_usd == pytest.approx(reserved)
        assert colony.finish(turn, "ok", usage=cost(spent)).reserved_usd == 0
    colony.post(colony.ann, "@scout")
    refused = colony.claim(colony.scout)
    assert (refused.turn, refused.reason) == (None, "its budget of $2.50 a day is spent")
    assert refused.retry_in_seconds == 12 * 3600
    assert agent(colony).cost_usd_today == pytest.approx(2.45)  # five cents are too little to begin with


def test_without_a_budget_nothing_is_reserved_and_a_loss_costs_nothing(colony: Colony) -> None:
    colony.post(colony.ann, "@scout")
    assert colony.turn(colony.scout).reserved_usd == 0
    assert colony.turn(colony.scout, take_over=True).attempt == 2
    assert agent(colony).cost_usd_today == 0


def test_a_spent_budget_keeps_the_items_tells_each_channel_once_and_ends_with_the_day(colony: Colony) -> None:
    colony.open_channel("ops2")
    limit(colony, budget_usd_per_day=1)
    colony.post(colony.ann, "@scout one")
    colony.finish(colony.turn(colony.scout), "ok", usage=cost(1.25))
    colony.post(colony.ann, "@scout two")
    assert not colony.claim(colony.scout).turn
    colony.post(colony.ann, "@scout three")
    colony.post(colony.bob, "@scout four", "ops2")
    assert not colony.claim(colony.scout).turn
    told = (
        "scout has to wait with its answers: its budget of $1.00 a day is spent, until 2030-01-02 00:00 UTC. "
        "What helps: raise it with `colony limits scout --budget-usd-per-day`."
    )
    assert (notices(colony), notices(colony, "ops2")) == ([told], [told])
    assert "budget of $1.00" in agent(colony).status_note
    assert not colony.heartbeat("scout").due
    colony.clock.advance(12 * 3600)
    assert colony.heartbeat("scout").due
    assert [item.message.body for item in colony.turn(colony.scout).items] == ["@scout two", "@scout three"]


def test_a_raised_budget_lets_an_agent_go_on_at_once(colony: Colony) -> None:
    limit(colony, budget_usd_per_day=1)
    colony.post(colony.ann, "@scout")
    colony.finish(colony.turn(colony.scout), "ok", usage=cost(1))
    colony.post(colony.ann, "@scout")
    assert not colony.claim(colony.scout).turn
    assert limit(colony, budget_usd_per_day=1.5).budget_usd_per_day == 1.5
    assert agent(colony).status_note == ""
    assert colony.turn(colony.scout).reserved_usd == 0.5


@pytest.mark.parametrize("end", ["lost", "taken over", "unknown", "dead"])
def test_what_a_turn_cost_that_nobody_can_tell_is_what_it_had_reserved(colony: Colony, end: str) -> None:
    limit(colony, budget_usd_per_day=2)
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout, lease_seconds=60)
    match end:
        case "lost":
            colony.clock.advance(61)
            assert colony.turn(colony.scout).attempt == 2
        case "taken over":
            assert colony.turn(colony.scout, take_over=True).attempt == 2
        case "unknown":
            colony.fail(turn, usage=cost(None))
        case "dead":
            colony.set_status("scout", "draining")
            colony.set_status("scout", "dead")
    assert agent(colony).cost_usd_today == 1.0
    assert colony.rows(turns)[0].cost_usd == 1.0


@only_sqlite
@pytest.mark.parametrize("is_late", [False, True])
def test_what_an_attempt_makes_up_does_not_use_up_everybody_s_budget(housed: Callable[..., Colony], is_late: bool) -> None:
    colony = housed(budget_usd_per_day=20)
    colony.post(colony.ann, "@scout @rook")
    turn = colony.turn(colony.scout)
    if is_late:
        colony.ann.call(operations.STOP, schema.StopTurn(id=turn.id))
        colony.fail(turn, usage=cost(1e6))
    else:
        colony.finish(turn, "ok", usage=cost(1e6))
    assert agent(colony).cost_usd_today == OVERSHOOT * turn.reserved_usd
    assert colony.turn(colony.rook).reserved_usd == turn.reserved_usd


def test_what_the_next_day_spends_on_an_old_turn_counts_there(colony: Colony) -> None:
    limit(colony, budget_usd_per_day=2)
    colony.clock.advance(11.9 * 3600)
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), usage=cost(1.5))
    colony.clock.advance(3600)
    assert agent(colony).cost_usd_today == 0
    colony.finish(colony.turn(colony.scout), "ok", usage=cost(0.25))
    assert agent(colony).cost_usd_today == 0.25
    assert colony.rows(turns)[0].cost_usd == 1.75


def test_a_cent_is_never_exceeded_by_twenty_claims_at_once(housed: Callable[..., Colony]) -> None:
    colony = housed(turn_usd=0.004, budget_usd_per_day=0.01)
    names = [f"agent{number}" for number in range(20)]
    clients = []
    for name in names:
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind="agent"))
        token = colony.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=name)).token
        colony.set_status(name, "healthy")
        clients.append((name, token))
    colony.post(colony.ann, " ".join(f"@{name}" for name in names))
    start = Barrier(20)
    agents = {name: colony.client(token) for name, token in clients}

    def claim(client: Client) -> schema.Turn | None:
        start.wait()
        return colony.claim(client).turn

    spent, rounds = 0.0, 0
    while True:
        with ThreadPoolExecutor(20) as pool:
            taken = [turn for turn in pool.map(claim, agents.values()) if turn]
        reserved = sum(row.reserved_usd for row in colony.rows(turns, turns.c.state == "running"))
        assert spent + reserved <= 0.01 + 1e-9
        if not taken:
            break
        rounds += 1
        for turn in taken:
            own = colony.client(dict(clients)[turn.agent], f"{turn.id}.{turn.attempt}")
            own.call(operations.FINISH, schema.FinishTurn(id=turn.id, reply="ok", usage=cost(turn.reserved_usd * 0.9)))
            spent += turn.reserved_usd * 0.9
    assert rounds >= 2
    assert 0.008 < spent <= 0.01
    open_items = sum(each.inbox for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents)
    assert open_items + len(colony.rows(turns)) == 20  # none is lost
    assert any("the colony's budget of $0.01 a day is spent" in body for body in notices(colony))
    colony.close()


def test_while_running_turns_hold_the_rest_an_agent_waits_without_a_word(housed: Callable[..., Colony]) -> None:
    colony = housed(budget_usd_per_day=1.0)
    colony.post(colony.ann, "@scout @rook")
    turn = colony.turn(colony.scout)
    refused = colony.claim(colony.rook)
    assert (refused.turn, refused.reason) == (None, "running turns have reserved the rest of the colony's budget")
    assert (notices(colony), agent(colony, "rook").held_until) == ([], None)
    colony.finish(turn, "ok", usage=cost(0.25))
    assert colony.turn(colony.rook).reserved_usd == 0.75
    colony.close()


# --- turns


def test_turns_an_hour_count_each_attempt_and_begin_anew_with_the_hour(colony: Colony) -> None:
    colony.clock.advance(600)
    limit(colony, turns_per_hour=2)
    colony.post(colony.ann, "@scout")
    colony.turn(colony.scout)
    colony.finish(colony.turn(colony.scout, take_over=True), "ok")
    colony.post(colony.ann, "@scout")
    refused = colony.claim(colony.scout)
    assert (refused.turn, refused.reason, refused.retry_in_seconds) == (None, "its 2 turns an hour are used up", 3000)
    colony.clock.advance(3000)
    assert colony.turn(colony.scout)
    assert (agent(colony).turns_this_hour, agent(colony).turns_today) == (1, 3)


def test_the_colonys_turns_are_those_of_all_agents(housed: Callable[..., Colony]) -> None:
    colony = housed(turns_per_hour=2)
    colony.post(colony.ann, "@scout @rook")
    for each in (colony.scout, colony.rook):
        colony.finish(colony.turn(each), "ok")
    colony.post(colony.ann, "@scout")
    assert colony.claim(colony.scout).reason == "the colony's 2 turns an hour are used up"
    assert "`colony-server run --turns-per-hour`" in notices(colony)[0]
    together = colony.ann.call(operations.AGENTS, schema.ListAgents()).colony
    assert together == schema.Allowance(turns_this_hour=2, turns_per_hour=2, cost_usd_today=0.0, budget_usd_per_day=None)
    colony.close()


@pytest.mark.parametrize("kind", ["pulse", "dream"])
def test_pulses_and_dreams_are_limited_like_answers_and_nobody_is_told(colony: Colony, kind: schema.TurnKind) -> None:
    limit(colony, turns_per_hour=0)
    assert colony.claim(colony.scout, kind=kind).reason == "its 0 turns an hour are used up"
    assert notices(colony) == []


# --- posts


def test_a_turn_posts_as_often_as_its_agent_may_and_then_once_more_its_reply(colony: Colony) -> None:
    limit(colony, posts_per_turn=2)
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    for number in (1, 2):
        colony.post(colony.in_turn(turn), f"part {number}")
    with pytest.raises(errors.LimitReached, match="2 messages"):
        colony.post(colony.in_turn(turn), "part 3")
    colony.finish(turn, "the end")
    assert [message.body for message in colony.read() if message.author == "scout"] == ["part 1", "part 2", "the end"]


def test_a_replayed_post_is_no_second_one_even_at_the_limit(colony: Colony) -> None:
    limit(colony, posts_per_turn=1)
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    first = colony.post(colony.in_turn(turn), "part 1", client_id="7.1.0")
    again = colony.post(colony.in_turn(turn), "part 1", client_id="7.1.0")
    assert (again.id, again.duplicate) == (first.id, True)


# --- setting them


def test_limits_are_set_one_by_one_and_lifted(colony: Colony) -> None:
    limit(colony, budget_usd_per_day=3, posts_per_turn=4)
    changed = limit(colony, turns_per_hour=5)
    assert (changed.budget_usd_per_day, changed.turns_per_hour, changed.posts_per_turn) == (3, 5, 4)
    assert limit(colony, lift="turns_per_hour").turns_per_hour is None
    lifted = limit(colony, lift="all", turns_per_hour=9)
    assert (lifted.budget_usd_per_day, lifted.turns_per_hour, lifted.posts_per_turn) == (None, 9, 4)


def test_only_its_owner_and_administrators_limit_an_agent(colony: Colony) -> None:
    for caller in (colony.ann, colony.scout):
        with pytest.raises(errors.Forbidden):
            caller.call(operations.SET_LIMITS, schema.SetLimits(agent="scout", turns_per_hour=1))


# --- slots


def present(colony: Colony, *agents: str) -> None:
    for name in agents:
        colony.heartbeat(name)


def crowd(colony: Colony, count: int) -> list[str]:
    """More healthy agents, with tokens like the standing cast's."""
    names = [f"agent{number}" for number in range(count)]
    for name in names:
        colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind="agent"))
        colony.set_status(name, "healthy")
    return names


def test_a_free_slot_goes_to_who_waits_longest_whoever_asks_first(housed: Callable[..., Colony]) -> None:
    colony = housed(slots=1)
    colony.post(colony.ann, "@scout")
    running = colony.turn(colony.scout)
    colony.post(colony.ann, "@rook")
    colony.post(colony.ann, "@scout")
    present(colony, "scout", "rook")
    colony.finish(running, "ok")
    assert not colony.heartbeat("scout").due
    assert "others wait longer" in colony.claim(colony.scout).reason
    assert colony.heartbeat("rook").due
    turn = colony.turn(colony.rook)
    colony.finish(turn, "ok")
    assert colony.turn(colony.scout)
    colony.close()


@pytest.mark.parametrize("absence", ["paused", "silent", "held"])
def test_a_slot_is_not_kept_for_an_agent_that_would_not_take_it(housed: Callable[..., Colony], absence: str) -> None:
    colony = housed(slots=1)
    colony.post(colony.ann, "@rook")
    colony.post(colony.ann, "@scout")
    present(colony, "scout", "rook")
    match absence:
        case "paused":
            colony.set_status("rook", "paused")
        case "silent":
            colony.clock.advance(61)
            present(colony, "scout")
        case "held":
            colony.fail(colony.turn(colony.rook), "rate_limited", retry_in_seconds=300)
    assert colony.heartbeat("scout").due
    assert colony.turn(colony.scout)
    colony.close()


def test_the_end_of_a_turn_wakes_who_waits_for_its_slot(housed: Callable[..., Colony]) -> None:
    colony = housed(slots=1)
    colony.post(colony.ann, "@scout")
    turn = colony.turn(colony.scout)
    colony.post(colony.ann, "@rook")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(colony.heartbeat, "rook", wait=20, status="healthy")
        while not colony.gate.waiters.asleep:
            assert not waiting.done()
        colony.finish(turn, "ok")
        assert waiting.result(20).due
    colony.close()


# --- agents that can't answer now


@pytest.mark.parametrize("status", ["paused", "draining"])
def test_who_mentions_an_agent_that_is_away_is_told_once(colony: Colony, status: schema.Status) -> None:
    colony.set_status("scout", status, "until the key is renewed")
    colony.post(colony.ann, "@scout one")
    colony.post(colony.bob, "@scout two")
    told = f"scout is {status}: until the key is renewed. It answers once somebody calls `colony resume scout`."
    assert notices(colony) == [told]
    colony.set_status("scout", "healthy")
    colony.post(colony.ann, "@scout three")
    assert notices(colony) == [told]
    colony.clock.advance(1)
    colony.set_status("scout", "paused")
    colony.post(colony.ann, "@scout four")
    assert len(notices(colony)) == 2
    assert len(colony.items("scout")) == 4  # and none is lost


def test_who_mentions_a_held_agent_in_another_channel_is_told_why(colony: Colony) -> None:
    colony.open_channel("garden")
    colony.post(colony.ann, "@scout")
    colony.fail(colony.turn(colony.scout), "credentials_rejected", detail="401")
    assert len(notices(colony)) == 1
    colony.post(colony.bob, "@scout and me?", "garden")
    assert notices(colony, "garden") == notices(colony)
    assert "rejected the credentials. What helps: give the agent a valid key" in notices(colony)[0]


def test_watchers_and_everyone_are_no_mention_and_a_short_hold_is_not_told(colony: Colony) -> None:
    colony.scout.call(operations.WATCH, schema.WatchChannel(channel="general"))
    colony.set_status("rook", "paused")
    colony.post(colony.ann, "hello @agents")
    colony.fail(colony.turn(colony.scout), "overloaded")
    colony.post(colony.ann, "@scout")
    assert notices(colony) == []


def test_an_agent_that_is_not_born_yet_says_so(colony: Colony) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="egg", kind="agent"))
    colony.post(colony.ann, "@egg")
    assert notices(colony) == ["egg is not at work yet. It answers once it is."]
