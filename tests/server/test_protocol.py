"""Posts, claims, failures and crashes in any order, against a model: each mention ends exactly once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select

from colony import errors, failures, operations, schema
from server import invariants
from server.config import ServerConfig
from server.database import sqlite_url
from server.models.claim import Terms
from server.models.inbox import inbox
from server.models.message import messages
from server.models.spending import spending
from server.models.turn import turns
from tests.server.postgres import Postgres
from tests.server.support import Call, Clock, Colony

agents = st.sampled_from(["scout", "rook"])
channels = st.sampled_from(["general", "ops"])
CLOSED = {"answered", "ignored", "suppressed", "dead", "by_hand"}


class House(RuleBasedStateMachine):
    """Two agents and a person. What each agent's process believes is in `held`; what must be true is in the invariants."""

    make: Any = None  # gives a fresh colony

    def __init__(self) -> None:
        super().__init__()
        self.colony: Colony = type(self).make()
        self.ids: dict[str, int] = {}
        self.held: dict[str, schema.Turn] = {}  # what each agent's process works on
        self.stale: list[schema.Turn] = []  # attempts that lost their turn
        self.status = {"scout": "healthy", "rook": "healthy"}
        self.watched: set[tuple[str, str]] = set()
        self.expected: dict[str, int] = {"scout": 0, "rook": 0}  # items each must have got
        self.retried: set[int | None] = set()  # the turns whose items were to be handled once more
        self.replied: dict[int, str] = {}  # the reply with which each turn was finished
        self.limited = {"scout": False, "rook": False}

    def teardown(self) -> None:
        with self.colony.gate.database.read() as connection:
            findings = list(invariants.findings(connection))
        self.colony.close()
        assert findings == []  # `colony-server check` agrees

    # --- what people do

    @rule(channel=channels, names=st.sets(agents), everyone=st.booleans())
    def ann_posts(self, channel: str, names: set[str], everyone: bool) -> None:
        body = " ".join(f"@{name}" for name in sorted(names)) + (" @agents" if everyone else "") + " please"
        self.colony.post(self.colony.ann, body, channel=channel)
        for name in self.expected:
            self.expected[name] += everyone or name in names or (name, channel) in self.watched

    @rule(agent=agents, channel=channels, on=st.booleans())
    def watch(self, agent: str, channel: str, on: bool) -> None:
        request = schema.WatchChannel(channel=channel) if on else schema.UnwatchChannel(channel=channel)
        self.client(agent).call(operations.WATCH if on else operations.UNWATCH, request)
        (self.watched.add if on else self.watched.discard)((agent, channel))

    @rule(agent=agents, status=st.sampled_from(["healthy", "paused"]))
    def pause_or_resume(self, agent: str, status: schema.Status) -> None:
        self.colony.set_status(agent, status)
        self.status[agent] = status

    @rule(agent=agents, usd=st.sampled_from([None, 0.5, 20.0]), hourly=st.sampled_from([None, 3, 100]))
    def limit(self, agent: str, usd: float | None, hourly: int | None) -> None:
        request = schema.SetLimits(agent=agent, budget_usd_per_day=usd, turns_per_hour=hourly, lift="all")
        self.colony.admin.call(operations.SET_LIMITS, request)
        self.limited[agent] = usd is not None or hourly is not None

    @rule(agent=agents, number=st.integers(0, 5))
    def ann_has_it_retried(self, agent: str, number: int) -> None:
        ended = [item for item in self.colony.items(agent) if item.outcome in ("dead", "suppressed")]
        if number < len(ended):
            item = ended[number]
            request = schema.RetryMessage(id=item.message_id, agent=agent)
            assert self.colony.admin.call(operations.RETRY, request).retried == [agent]
            assert self.colony.admin.call(operations.RETRY, request).waiting == [agent]
            self.retried.add(item.turn_id)

    @rule(agent=agents, rests=st.booleans())
    def ann_stops_a_turn(self, agent: str, rests: bool) -> None:
        resting = [turn.id for turn in self.colony.turns() if turn.state == "resting" and turn.agent_id == self.ids[agent]]
        if rests and resting:
            assert self.colony.admin.call(operations.STOP, schema.StopTurn(id=resting[0])).state == "failed"
        elif turn := self.held.pop(agent, None):
            assert self.colony.admin.call(operations.STOP, schema.StopTurn(id=turn.id)).state == "failed"
            self.stale.append(turn)

    @rule(seconds=st.sampled_from([1, 29, 31, 61, 300, 3601]))
    def time_passes(self, seconds: int) -> None:
        self.colony.clock.advance(seconds)

    # --- what an agent does

    @rule(agent=agents, take_over=st.booleans(), kind=st.sampled_from(["answer", "answer", "answer", "pulse"]))
    def claim(self, agent: str, take_over: bool, kind: schema.TurnKind) -> None:
        due = self.colony.heartbeat(agent).due
        mine = self.held.get(agent)
        was_over = bool(mine and self.colony.rows(turns, turns.c.id == mine.id)[0].lease_until <= self.colony.clock.now)
        had_live = self.colony.count(turns, turns.c.state == "running", turns.c.agent_id == self.ids[agent])
        turn = self.colony.claim(self.client(agent), take_over=take_over, kind=kind).turn
        if turn is None:
            assert not due or had_live or kind == "pulse" or self.limited[agent], "a heartbeat promised a turn"
            if mine and self.state_of(mine) != "running":
                assert take_over or was_over
                self.stale.append(self.held.pop(agent))
            return
        assert self.status[agent] == "healthy"
        assert turn.items or kind == "pulse"
        assert all(item.message.author != agent for item in turn.items)
        if mine:
            assert take_over or was_over
            self.stale.append(mine)
        self.held[agent] = turn
        seen = next(each for each in self.colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == agent)
        assert seen.turns_per_hour is None or seen.turns_this_hour <= seen.turns_per_hour
        if seen.budget_usd_per_day is None:
            assert turn.reserved_usd == 0
        else:
            assert 0 < turn.reserved_usd <= seen.budget_usd_per_day - seen.cost_usd_today + 1e-9

    @precondition(lambda self: self.held)
    @rule(agent=agents)
    def crash(self, agent: str) -> None:
        if agent in self.held:
            self.stale.append(self.held.pop(agent))
        self.claim(agent, take_over=True, kind="answer")

    @precondition(lambda self: self.held)
    @rule(agent=agents, reply=st.sampled_from(["done", "HEARTBEAT_OK", ""]), cost=st.sampled_from([0.0, 0.25, None]), again=st.booleans())
    def finish(self, agent: str, reply: str, cost: float | None, again: bool) -> None:
        if turn := self.held.pop(agent, None):
            for _ in range(1 + again):
                self.colony.finish(turn, reply, usage=schema.Usage(cost_usd=cost))
            self.replied[turn.id] = reply
            for name in self.expected:
                self.expected[name] += (
                    reply == "done" and turn.channel is not None and name != agent and (name, turn.channel) in self.watched
                )
            self.stale.append(turn.model_copy(update={"attempt": turn.attempt + 1}))

    @precondition(lambda self: self.held)
    @rule(agent=agents, code=st.sampled_from(sorted(failures.FAILURES)), permanent=st.booleans(), again=st.booleans())
    def fail(self, agent: str, code: str, permanent: bool, again: bool) -> None:
        if turn := self.held.pop(agent, None):
            for _ in range(1 + again):
                self.colony.fail(turn, code, permanent=permanent)
            self.stale.append(turn.model_copy(update={"attempt": turn.attempt + 1}))

    @precondition(lambda self: self.held)
    @rule(agent=agents)
    def renew(self, agent: str) -> None:
        if turn := self.held.get(agent):
            self.colony.in_turn(turn).call(operations.RENEW, schema.RenewTurn(id=turn.id))

    @precondition(lambda self: self.held)
    @rule(agent=agents, channel=channels)
    def say_something(self, agent: str, channel: str) -> None:
        if turn := self.held.get(agent):
            may = channel == "general" or (agent, channel) in self.watched or self.was_addressed(agent, channel)
            try:
                said = self.colony.post(self.colony.in_turn(turn), "on it", channel=channel, client_id=f"{turn.id}:0")
            except errors.Forbidden:
                assert not may
                return
            assert may
            for name in self.expected:
                self.expected[name] += not said.duplicate and name != agent and (name, said.channel) in self.watched

    @rule(agent=agents, number=st.integers(0, 5))
    def close_by_hand(self, agent: str, number: int) -> None:
        waiting = self.colony.inbox(self.client(agent))
        if number < len(waiting):
            ids = [waiting[number].id]
            assert self.client(agent).call(operations.ACK, schema.AckInbox(ids=ids)).acked == ids

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def a_ghost_speaks(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.stale))
        if (mine := self.held.get(turn.agent)) and (mine.id, mine.attempt) == (turn.id, turn.attempt):
            return
        ghost = self.colony.in_turn(turn)
        calls: tuple[Call, ...] = (
            (operations.FINISH, schema.FinishTurn(id=turn.id, reply="boo")),
            (operations.FAIL, schema.FailTurn(id=turn.id, code="crashed", permanent=True)),
            (operations.RENEW, schema.RenewTurn(id=turn.id)),
            (operations.POST, schema.PostMessage(channel="general", body="boo @scout @rook")),
            (operations.CLAIM, schema.ClaimTurn(take_over=True)),
        )
        for operation, request in calls:
            state = self.state_of(turn)
            if state == "running":
                return  # nobody has taken it over: it may still speak
            if state and operation.closes_turn:  # its last attempt repeats itself: refused or without effect, as the invariants see
                with suppress(errors.StaleTurn):
                    ghost.call(operation, request)
            else:
                with pytest.raises(errors.StaleTurn):
                    ghost.call(operation, request)

    # --- what must be true

    @invariant()
    def each_mention_ends_exactly_once(self) -> None:
        with self.colony.gate.database.read() as connection:
            items, all_turns, said = (list(connection.execute(select(table).order_by(table.c.id))) for table in (inbox, turns, messages))
        by_turn: dict[int | None, list[Any]] = {turn.id: [] for turn in all_turns}
        for item in items:
            by_turn.setdefault(item.turn_id, []).append(item)
        self.every_item_has_exactly_one_place(items, {turn.id: turn.state for turn in all_turns})
        self.everyone_got_one_item_per_message(items)
        for turn in all_turns:
            posts = [message for message in said if message.turn_id == turn.id and message.channel_id == turn.channel_id]
            notices = [message for message in said if message.client_id == f"{turn.id}:dead"]
            self.answered_means_one_reply_or_a_word_in_its_channel(turn, by_turn[turn.id], posts, notices)
        self.an_agent_has_one_live_turn_and_knows_it(all_turns)
        assert sum(turn.cost_usd for turn in all_turns) == pytest.approx(sum(row.cost_usd for row in self.colony.rows(spending)))
        assert all(turn.state == "running" for turn in all_turns if turn.reserved_usd), "what has ended holds money back"
        self.numbers_have_no_gaps(said)

    def every_item_has_exactly_one_place(self, items: list[Any], states: dict[int, str]) -> None:
        for item in items:
            assert (item.acked_at is None) == (item.outcome is None)
            assert item.outcome in {None, *CLOSED}
            if item.outcome is None and item.turn_id is not None:
                assert states[item.turn_id] in ("running", "resting")
                assert (states[item.turn_id] == "resting") == (item.not_before is not None)
            if item.outcome in ("answered", "ignored"):
                assert states[item.turn_id] == "finished"
            if item.outcome == "dead":
                assert states[item.turn_id] == "failed"
        waiting = {item.turn_id for item in items if item.outcome is None}
        assert all(turn_id in waiting for turn_id, state in states.items() if state == "resting"), "a turn rests for ever"

    def everyone_got_one_item_per_message(self, items: list[Any]) -> None:
        for name, expected in self.expected.items():
            got = [item.message_id for item in items if item.agent_id == self.ids[name]]
            assert len(got) == len(set(got)) == expected

    def answered_means_one_reply_or_a_word_in_its_channel(self, turn: Any, items: list[Any], posts: list[Any], notices: list[Any]) -> None:
        replies = [message for message in posts if message.client_id == f"{turn.id}:reply"]
        assert len(replies) == (self.replied.get(turn.id) == "done" and turn.channel_id is not None)
        if turn.state == "finished":
            assert {item.outcome for item in items} <= {"answered" if posts else "ignored", "by_hand"}
        if turn.id not in self.retried:
            assert len(notices) == any(item.outcome == "dead" for item in items)
        assert len(notices) <= 1

    def an_agent_has_one_live_turn_and_knows_it(self, all_turns: list[Any]) -> None:
        for name in self.expected:
            live = [(turn.id, turn.attempt) for turn in all_turns if turn.state == "running" and turn.agent_id == self.ids[name]]
            assert len(live) <= 1
            if name in self.held:
                assert live == [(self.held[name].id, self.held[name].attempt)]

    def numbers_have_no_gaps(self, said: list[Any]) -> None:
        for channel_id in {message.channel_id for message in said}:
            seqs = [message.seq for message in said if message.channel_id == channel_id]
            assert seqs == list(range(1, len(seqs) + 1))

    @initialize()
    def begin(self) -> None:
        self.ids = {name: self.colony.id_of(name) for name in self.expected}

    def was_addressed(self, agent: str, channel: str) -> bool:
        waiting = self.colony.inbox(self.client(agent))
        had = self.colony.ann.call(operations.TURNS, schema.ListTurns(agent=agent, limit=500)).turns
        return any(item.message.channel == channel for item in waiting) or any(turn.channel == channel for turn in had)

    def client(self, agent: str) -> Any:
        return self.colony.scout if agent == "scout" else self.colony.rook

    def state_of(self, turn: schema.Turn) -> str | None:
        """The turn's state, if this is its last attempt."""
        [row] = self.colony.rows(turns, turns.c.id == turn.id)
        return str(row.state) if row.attempt == turn.attempt else None


def bounded(examples: int, steps: int) -> settings:
    # Without shrinking: a failure is printed step by step as it is, and soon.
    return settings(
        phases=[Phase.reuse, Phase.generate],
        database=None,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: here it is the rules that are tried, not the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


# Ten thousand steps in all, in several runs that share the processors.


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(8))
def test_the_protocol_holds_on_sqlite(sqlite_file: Path, folder: Path, part: int) -> None:
    slots = (32, 2, 1)[part % 3]
    made = iter(range(10**9))

    def make() -> Colony:
        url = sqlite_url(shutil.copyfile(sqlite_file, folder / f"{next(made)}.db"))
        return Colony(url, Clock(), ServerConfig(url, terms=Terms(slots)))

    machine = type("OnSQLite", (House,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=bounded(28, 40))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("slots", [32, 1])
def test_the_protocol_holds_on_postgresql(postgres: Postgres, slots: int) -> None:
    def make() -> Colony:
        url = postgres.fresh()
        return Colony(url, Clock(), ServerConfig(url, terms=Terms(slots)))

    machine = type("OnPostgreSQL", (House,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=bounded(15, 40))
