"""What agents reached: kept once, with the turn it belongs to, told once in #ops, and shown to those whom it concerns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from colony import errors, operations, schema
from colony.client import Client
from server.models import contact as contact_model
from server.models import mention
from server.models.contact import NOTICES_PER_HOUR, SHOWN, SILENCE, egress_hosts, egress_log
from tests.server.reaching import bear, bear_again, die, give_linux_users, settle
from tests.server.samples import contact
from tests.server.support import Clock, Colony, only_sqlite


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and both agents have a Linux user."""
    return settle(colony)


def record(colony: Colony, *contacts: schema.Contact) -> int:
    return colony.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=list(contacts))).recorded


def reached(colony: Colony, host: str = "pypi.org", agent: str = "scout", **more: Any) -> schema.Contact:
    return contact(colony, agent, host, **{"verdict": "allowed", **more})


def log(colony: Colony, agent: str | None = "scout", caller: Client | None = None, **more: Any) -> list[schema.EgressEntry]:
    return (caller or colony.admin).call(operations.EGRESS_LOG, schema.ReadEgressLog(agent=agent, **more)).contacts


def told(colony: Colony) -> list[str]:
    return [message.body for message in colony.read("ops")]


# --- what is kept


def test_a_contact_is_kept_as_it_was_reported(house: Colony) -> None:
    began = house.clock.now - timedelta(microseconds=1)
    said = {"sent_bytes": 10, "received_bytes": 10**12, "seconds": 1.5, "reason": "no rule allows it", "kind": "http", "port": 80}
    assert record(house, contact(house, "scout", "PyPI.org.", began_at=began, **said)) == 1
    [entry] = log(house)
    assert (entry.agent, entry.linux_user, entry.host, entry.verdict, entry.began_at) == ("scout", "scout", "pypi.org", "denied", began)
    assert said == {name: getattr(entry, name) for name in said}
    assert (entry.turn_id, entry.attempt) == (None, None)


def test_a_contact_that_is_reported_again_is_kept_once(house: Colony) -> None:
    one, other, third = (reached(house, f"{name}.example") for name in "abc")
    assert record(house, one, one) == 1
    changed = one.model_copy(update={"host": "evil.example", "sent_bytes": 7, "seconds": 9.0})
    assert record(house, changed, other, third, other) == 2
    assert record(house, one, other, third) == record(house) == 0
    assert [entry.host for entry in log(house)] == ["c.example", "b.example", "a.example"]
    assert len(told(house)) == 3


def test_what_goes_on_is_known_and_changes_until_it_ends(house: Colony) -> None:
    begun = reached(house, is_open=True, seconds=1.0)
    assert record(house, begun) == 1
    assert (log(house)[0].state, log(house)[0].seconds) == ("open", 1.0)
    assert len(told(house)) == 1
    house.clock.advance(60)
    assert record(house, begun.model_copy(update={"sent_bytes": 70, "seconds": 61.0})) == 0
    record(house, begun.model_copy(update={"sent_bytes": 3, "seconds": 2.0}))  # which came late
    assert (log(house)[0].state, log(house)[0].sent_bytes) == ("open", 70)
    ended = begun.model_copy(update={"is_open": False, "sent_bytes": 90, "seconds": 70.0, "verdict": "failed", "reason": "broken off"})
    record(house, ended, begun)
    record(house, begun.model_copy(update={"seconds": 100.0}))
    [entry] = log(house)
    assert (entry.state, entry.sent_bytes, entry.seconds, entry.verdict) == ("ended", 90, 70.0, "failed")
    assert len(told(house)) == 1


def test_what_its_gate_no_longer_speaks_of_is_lost(house: Colony) -> None:
    record(house, reached(house, is_open=True))
    house.clock.advance(SILENCE.total_seconds() - 1)
    assert log(house)[0].state == "open"
    house.clock.advance(1)
    assert log(house)[0].state == "lost"


def test_one_that_stands_for_many_may_come_to_stand_for_more(house: Colony) -> None:
    first = contact(house, "scout", reason="no rule allows it")
    for times in (1, 40, 7):
        record(house, first.model_copy(update={"times": times}))
    assert [entry.times for entry in log(house)] == [40]


def test_no_more_hosts_are_remembered_than_there_is_room_for(house: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_model, "MOST_HOSTS", 5)
    record(house, *(reached(house, f"h{number}.example") for number in range(4)))
    record(house, *(reached(house, f"x{number}.example") for number in range(4)))
    record(house, reached(house, "y.example"))
    assert house.count(egress_hosts) == len(told(house)) == 5


def test_reports_that_come_twice_at_once_are_kept_once(database_url: str, clock: Clock) -> None:
    houses = [Colony(database_url, clock) for _ in range(2)]
    give_linux_users(houses[0])
    contacts = [reached(houses[0], f"h{number}.example") for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        reports = [pool.submit(record, each, *contacts) for each in houses * 2]
        assert sum(each.result(60) for each in reports) == 20
    assert houses[0].count(egress_log) == houses[0].count(egress_hosts) == len(told(houses[0])) == 20
    for each in houses:
        each.close()


def test_who_is_no_agent_has_contacts_without_one(house: Colony) -> None:
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="zoe", kind="ape", linux_user="zoe"))
    assert record(house, reached(house, agent="zoe"), reached(house, agent="nobody"), reached(house)) == 3
    assert [(entry.agent, entry.linux_user) for entry in log(house, None)] == [("scout", "scout"), (None, "nobody"), (None, "zoe")]
    assert len(told(house)) == 1


def test_what_is_no_host_is_kept_but_never_told(house: Colony) -> None:
    hosts = ["@apes look", "ann@example.org", "a b", "", "x" * 255, "pуpi.org", "`", "127.1"]
    assert record(house, *(reached(house, host) for host in hosts)) == len(hosts)
    assert [entry.host for entry in log(house)][::-1] == hosts
    assert told(house) == []


# --- the turn


def turn_of(colony: Colony, moment: object) -> tuple[int | None, int | None]:
    record(colony, contact(colony, "scout", began_at=moment))
    entry = log(colony, limit=1)[0]
    return entry.turn_id, entry.attempt


def test_a_contact_belongs_to_the_attempt_that_ran_when_it_began(house: Colony) -> None:
    second = timedelta(seconds=1)
    house.post(house.ann, "@scout one")
    house.clock.advance(10)
    began = house.clock.now
    first = house.turn(house.scout)
    assert turn_of(house, began - second) == (None, None)
    assert turn_of(house, began) == (first.id, 1)
    house.clock.advance(10)
    failed = house.clock.now
    house.fail(first)
    house.clock.advance(100)
    again = house.clock.now
    assert house.turn(house.scout).attempt == 2
    house.clock.advance(10)
    house.finish(first.model_copy(update={"attempt": 2}), "done")
    done = house.clock.now
    house.clock.advance(10)
    house.post(house.ann, "@scout two")
    next_one = house.turn(house.scout)
    known = {
        began - second: (None, None), began + second: (first.id, 1), failed: (first.id, 1), failed + second: (None, None),
        again: (first.id, 2), done: (first.id, 2), done + second: (None, None), house.clock.now: (next_one.id, 1),
    }  # fmt: skip
    for moment, turn in known.items():
        assert turn_of(house, moment) == turn
    assert {entry.attempt for entry in log(house, turn=first.id)} == {1, 2}


def test_a_contact_belongs_to_no_turn_of_another_agent(house: Colony) -> None:
    house.post(house.ann, "@rook hello")
    house.turn(house.rook)
    assert turn_of(house, house.clock.now) == (None, None)


def test_a_turn_that_rests_while_many_others_run_keeps_its_contacts(house: Colony) -> None:
    house.post(house.ann, "@scout", channel=house.open_channel("garden"))
    first = house.turn(house.scout)
    house.fail(first, retry_in_seconds=3600)
    for _ in range(3):
        house.clock.advance(60)
        house.post(house.ann, "@scout")
        house.finish(house.turn(house.scout), "done")
    house.clock.advance(3600)
    assert house.turn(house.scout).id == first.id
    assert turn_of(house, house.clock.now) == (first.id, 2)


# --- first contacts


def test_the_first_contact_with_a_host_is_told_once(house: Colony) -> None:
    house.post(house.ann, "@scout hello")
    turn = house.turn(house.scout)
    record(house, reached(house), reached(house, "PYPI.org", port=80, kind="http"), reached(house, "2001:db8::1"))
    first = [f"@bob scout reaches {host} for the first time (turn {turn.id})." for host in ("pypi.org", "2001:db8::1")]
    assert told(house) == first
    assert [item.message.body for item in house.inbox(house.bob)] == first, "its owner is called"
    record(house, reached(house), reached(house, agent="rook"))
    assert told(house)[2:] == ["rook reaches pypi.org for the first time."]
    assert [message.type for message in house.read("ops")] == ["notice"] * 3
    house.clock.advance(30 * 86_400)
    record(house, reached(house))
    assert len(told(house)) == 3


@pytest.mark.parametrize("other", [{"verdict": "denied"}, {"verdict": "failed", "sent_bytes": 0, "received_bytes": 0}, {"kind": "model"}])
def test_only_what_was_allowed_and_is_not_the_model_counts_as_reached(house: Colony, other: dict[str, Any]) -> None:
    record(house, reached(house, **other))
    assert told(house) == []
    record(house, reached(house))
    assert len(told(house)) == 1


def test_what_broke_off_after_something_went_through_counts_as_reached(house: Colony) -> None:
    """Else an agent that hangs up in the middle would be heard of by nobody."""
    record(house, reached(house, verdict="failed", sent_bytes=1, received_bytes=0))
    assert len(told(house)) == 1


def test_of_very_many_first_contacts_only_some_are_told_each_hour(house: Colony) -> None:
    hosts = [reached(house, f"h{number}.example") for number in range(60)]
    record(house, *hosts[:15])
    record(house, *hosts[15:40])
    record(house, *hosts[40:50])
    assert len(told(house)) == NOTICES_PER_HOUR + 1
    assert told(house)[19] == "@bob scout reaches h19.example for the first time."
    more = "@bob scout reaches more hosts for the first time within this hour than are told here: `colony egress log scout`."
    assert told(house)[20] == more
    record(house, reached(house, agent="rook"))
    assert told(house)[21] == "rook reaches pypi.org for the first time.", "each agent has its own"
    house.clock.advance(3600)
    record(house, *hosts[50:], reached(house, "h30.example"))
    assert [body.split()[3] for body in told(house)[22:]] == [f"h{number}.example" for number in range(50, 60)]
    assert house.count(egress_log) == 62


def test_exactly_as_many_as_are_told_have_no_more(house: Colony) -> None:
    record(house, *(reached(house, f"h{number}.example") for number in range(NOTICES_PER_HOUR)))
    assert len(told(house)) == NOTICES_PER_HOUR


def test_who_is_born_again_reaches_everything_for_the_first_time(house: Colony) -> None:
    record(house, reached(house))
    die(house, "scout")
    assert house.count(egress_hosts) == 0
    before = len(told(house))
    bear(house, "scout")
    house.clock.advance(1)
    record(house, reached(house))
    assert told(house)[before:] == ["scout reaches pypi.org for the first time."]


def test_a_first_contact_is_an_event_and_wakes_nobody_but_its_owner(house: Colony) -> None:
    since = house.ann.call(operations.EVENTS, schema.ListEvents()).position
    record(house, reached(house))
    [event] = house.ann.call(operations.EVENTS, schema.ListEvents(since=since)).events
    assert event.message is not None
    assert event.message.channel == "ops"
    assert house.items("rook") == house.items("scout") == house.items("ann") == []


@only_sqlite
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("@abp.-_`*: \n/#[]агentsApes"), max_size=30))
def test_no_host_can_mention_anybody(house: Colony, host: str) -> None:
    record(house, reached(house, f"@ann.{host}"), reached(house, host), reached(house, f"{host} @ann"), reached(house, "a.@ann"))
    house.clock.advance(3600)
    for body in told(house):
        assert mention.find(body) == mention.Mentions(frozenset({"bob"}), frozenset())
    assert house.items("ann") == []


# --- who may see it


def test_the_log_is_for_the_agent_its_owner_and_administrators(house: Colony) -> None:
    record(house, reached(house), reached(house, agent="rook"))
    for caller in (house.admin, house.bob, house.scout):
        assert [entry.agent for entry in log(house, "scout", caller)] == ["scout"]
    for caller in (house.ann, house.rook):
        with pytest.raises(errors.Forbidden, match=r"agent scout is not yours|rook may not egress_log agent:scout"):
            log(house, "scout", caller)
    for caller in (house.ann, house.bob, house.scout):
        with pytest.raises(errors.Forbidden, match=r"administrators alone|scout may not egress_log: no row"):
            log(house, None, caller)
    for nobody in ("newt", "ann", "agents"):
        with pytest.raises(errors.NotFound):
            log(house, nobody)


def test_what_the_former_life_reached_is_neither_for_who_is_born_again_nor_for_its_owner(house: Colony) -> None:
    asked = house.post(house.ann, "@scout hello")
    house.finish(house.turn(house.scout), "hello")
    record(house, reached(house))
    bear_again(house, "scout")
    house.admin.call(operations.SET_OWNER, schema.SetOwner(agent="scout", owner="bob"))
    record(house, reached(house, "api.example"))
    for caller in (house.scout, house.bob):
        assert [entry.host for entry in log(house, "scout", caller)] == ["api.example"]
    assert [entry.host for entry in log(house)] == ["api.example", "pypi.org"]
    assert [who for who in ("ann", "bob", "scout", "admin") if explained(house, asked, getattr(house, who)).reached] == ["ann", "admin"]


def test_the_log_is_read_page_by_page_from_the_newest(house: Colony) -> None:
    record(house, *(reached(house, f"h{number}.example") for number in range(5)))
    first = log(house, limit=2)
    assert [entry.host for entry in first] == ["h4.example", "h3.example"]
    assert [entry.host for entry in log(house, limit=2, before=first[-1].id)] == ["h2.example", "h1.example"]


def test_a_contact_that_nobody_can_read_hides_no_other(house: Colony) -> None:
    asked = house.post(house.ann, "@scout hello")
    house.turn(house.scout)
    record(house, reached(house, "a.example"), reached(house, "b.example"))
    house.gate.database.write(lambda connection: connection.execute(text("UPDATE egress_log SET verdict = 'x' WHERE host = 'a.example'")))
    assert [(entry.host, entry.reason) for entry in log(house)] == [("b.example", ""), ("", "(the colony can't read this contact)")]
    assert [each.host for each in explained(house, asked).reached] == ["b.example"]


# --- explanations


def explained(colony: Colony, message: schema.Message, caller: Client | None = None) -> schema.Turn:
    [turn] = (caller or colony.admin).call(operations.EXPLAIN, schema.ExplainMessage(id=message.id)).turns
    return turn


def test_an_explanation_holds_what_each_attempt_reached(house: Colony) -> None:
    asked = house.post(house.ann, "@scout hello")
    turn = house.turn(house.scout)
    record(house, reached(house, sent_bytes=1, received_bytes=10), contact(house, "scout", "evil.example"))
    record(house, reached(house, sent_bytes=2, received_bytes=20), reached(house, port=80, kind="http"))
    house.fail(turn)
    house.clock.advance(100)
    house.turn(house.scout)
    record(house, reached(house, "api.example", kind="model"))
    found = explained(house, asked)
    assert [tuple(each.model_dump().values()) for each in found.reached] == [
        (1, "pypi.org", 443, "allowed", 2, 3, 30),
        (1, "evil.example", 443, "denied", 1, 0, 0),
        (1, "pypi.org", 80, "allowed", 1, 0, 0),
        (2, "api.example", 443, "allowed", 1, 0, 0),
    ]
    assert found.reached_left_out == {}


def test_an_explanation_holds_the_first_kinds_of_contacts_and_counts_the_others(house: Colony) -> None:
    asked = house.post(house.ann, "@scout hello")
    turn = house.turn(house.scout)
    record(house, *(contact(house, "scout", f"h{number}.example") for number in range(SHOWN + 5)))
    record(house, *(contact(house, "scout", f"h{number}.example") for number in (0, SHOWN)))
    house.fail(turn)
    house.clock.advance(100)
    house.turn(house.scout)
    record(house, contact(house, "scout"))
    found = explained(house, asked)
    assert [each.host for each in found.reached] == [*(f"h{number}.example" for number in range(SHOWN)), "pypi.org"]
    assert [each.contacts for each in found.reached[:2]] == [2, 1]
    assert found.reached_left_out == {1: 6}


def test_what_was_reached_is_explained_to_those_who_could_stop_the_turn(house: Colony) -> None:
    asked = house.post(house.ann, "@scout hello")
    house.turn(house.scout)
    record(house, reached(house))
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="zoe", kind="ape"))
    zoe = house.client(house.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="zoe")).token)
    for caller, sees in ((house.admin, True), (house.ann, True), (house.bob, True), (house.scout, True), (house.rook, False), (zoe, False)):
        assert bool(explained(house, asked, caller).reached) == sees
