"""What agents may reach: who decides about it, and how the gate hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.models.audit import audit
from server.models.egress import MAX_RULES, egress_rules
from tests.server.cast import token_of
from tests.server.reaching import bear, die, settle, settle_gate
from tests.server.support import Clock, Colony, only_sqlite

LONG = 40.0  # seconds that a noisy machine may take


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and both agents have a Linux user."""
    return settle(colony)


def put(caller: Client, agent: str, host: str, *ports: int, effect: schema.EgressEffect = "allow") -> schema.EgressRule:
    return caller.call(operations.SET_EGRESS, schema.SetEgress(agent=agent, effect=effect, host=host, ports=list(ports)))


def drop(caller: Client, agent: str, host: str) -> schema.EgressRule:
    return caller.call(operations.DROP_EGRESS, schema.DropEgress(agent=agent, host=host))


def rules(colony: Colony, agent: str | None = None) -> list[tuple[str, str, str, list[int]]]:
    found = colony.ann.call(operations.EGRESS_RULES, schema.ListEgress(agent=agent)).rules
    return [(rule.agent, rule.effect, rule.host, rule.ports) for rule in found]


def policy(colony: Colony, **fields: Any) -> schema.EgressPolicy:
    return colony.admin.call(operations.EGRESS_POLICY, schema.GetEgressPolicy(**fields))


# --- rules


def test_a_rule_is_set_replaced_and_forgotten(house: Colony) -> None:
    rule = put(house.bob, "scout", "PyPI.org.", 443, 80)
    assert (rule.agent, rule.effect, rule.host, rule.ports) == ("scout", "allow", "pypi.org", [80, 443])
    assert (rule.set_by, rule.set_at) == ("bob", house.clock.now)
    put(house.admin, "agents", "evil.example", effect="deny")
    house.clock.advance(5)
    assert put(house.admin, "scout", "pypi.org", effect="deny").set_at == house.clock.now
    assert rules(house) == [("agents", "deny", "evil.example", []), ("scout", "deny", "pypi.org", [])]
    assert drop(house.bob, "scout", "PYPI.org").effect == "deny"
    assert rules(house) == [("agents", "deny", "evil.example", [])]
    with pytest.raises(errors.NotFound, match=r"scout has no rule for the host pypi\.org"):
        drop(house.bob, "scout", "pypi.org")


def test_an_agent_s_list_holds_its_own_rules_and_those_of_all(house: Colony) -> None:
    for agent, host in (("scout", "a.example"), ("rook", "b.example"), ("agents", "c.example")):
        put(house.admin, agent, host)
    assert [(rule[0], rule[2]) for rule in rules(house)] == [("agents", "c.example"), ("rook", "b.example"), ("scout", "a.example")]
    assert [rule[0] for rule in rules(house, "scout")] == ["agents", "scout"]
    assert [rule[0] for rule in rules(house, "agents")] == ["agents"]
    for nobody in ("newt", "ann"):
        with pytest.raises(errors.NotFound):
            rules(house, nobody)


@pytest.mark.parametrize("who", ["ann", "bob", "scout", "rook"])
@pytest.mark.parametrize("agent", ["scout", "rook", "agents"])
def test_owners_decide_about_their_agents_and_administrators_about_all(house: Colony, who: str, agent: str) -> None:
    put(house.admin, agent, "old.example")
    caller = house.client(token_of(who))
    held = rules(house)
    if (who, agent) == ("bob", "scout"):
        put(caller, agent, "new.example")
        drop(caller, agent, "old.example")
        assert [rule[2] for rule in rules(house, agent)] == ["new.example"]
    else:
        changes: list[Callable[[], object]] = [lambda: put(caller, agent, "new.example"), lambda: drop(caller, agent, "old.example")]
        for change in changes:
            with pytest.raises(errors.Forbidden):
                change()
        assert rules(house) == held


def test_an_owner_allows_names_and_only_an_administrator_an_address(house: Colony) -> None:
    for address in ("127.0.0.1", "2001:db8::1"):
        with pytest.raises(errors.Forbidden, match="only administrators allow one"):
            put(house.bob, "scout", address)
        put(house.bob, "scout", address, effect="deny")
        put(house.admin, "scout", address)


def test_the_audit_and_the_events_say_who_changed_what(house: Colony) -> None:
    before = house.ann.call(operations.EVENTS, schema.ListEvents()).position
    put(house.bob, "scout", "pypi.org", 443)
    drop(house.bob, "scout", "pypi.org")
    seen = house.ann.call(operations.EVENTS, schema.ListEvents(since=before)).events
    assert [(event.deed.actor, event.deed.operation, event.deed.fields) for event in seen if event.deed] == [
        ("bob", "set_egress", {"agent": "scout", "effect": "allow", "host": "pypi.org", "ports": [443]}),
        ("bob", "drop_egress", {"agent": "scout", "host": "pypi.org"}),
    ]
    assert house.count(audit, audit.c.operation.like("%egress")) == 2


def test_there_is_an_end_of_rules(house: Colony) -> None:
    for number in range(MAX_RULES):
        put(house.bob, "scout", f"h{number}.example")
    with pytest.raises(errors.LimitReached, match="scout has 200 rules"):
        put(house.bob, "scout", "one.more")
    assert put(house.bob, "scout", "h7.example", effect="deny").effect == "deny"
    assert put(house.admin, "agents", "one.more").agent == "agents"


def test_two_who_set_the_same_rule_at_once_make_one(database_url: str, clock: Clock) -> None:
    houses = [Colony(database_url, clock) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(put, house.admin, agent, "pypi.org") for house in houses for agent in ("agents", "rook")]:
            each.result(LONG)
    assert sorted(rules(houses[0])) == [("agents", "allow", "pypi.org", []), ("rook", "allow", "pypi.org", [])]
    for house in houses:
        house.close()


def test_the_rules_of_an_agent_die_with_it(house: Colony) -> None:
    put(house.bob, "scout", "pypi.org")
    die(house, "scout")
    assert rules(house) == []
    with pytest.raises(errors.Conflict, match="has left the colony"):
        put(house.admin, "scout", "pypi.org")
    bear(house, "scout")
    assert policy(house).agents["scout"] == []


def test_a_rule_that_nobody_can_read_denies(house: Colony) -> None:
    put(house.admin, "scout", "pypi.org")
    for broken in ("effect = 'maybe'", "effect = 'allow', ports = '{'", "ports = '[\"x\"]'", "ports = '7'"):
        house.execute(f"UPDATE egress_rules SET {broken}")
        assert rules(house) == [("scout", "deny", "pypi.org", [])]
        assert policy(house).agents["scout"][0].effect == "deny"


# --- the policy


def test_the_policy_holds_all_living_agents_with_a_linux_user_and_their_rules(house: Colony) -> None:
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="newt", kind="agent"))
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="zoe", kind="ape", linux_user="zoe"))
    put(house.admin, "agents", "*", effect="deny")
    put(house.admin, "scout", "pypi.org", 443)
    house.set_status("rook", "paused")
    for caller in (house.admin, settle_gate(house)):
        found = caller.call(operations.EGRESS_POLICY, schema.GetEgressPolicy())
        everyone = schema.EgressRule(agent="agents", effect="deny", host="*")
        own = schema.EgressRule(agent="scout", effect="allow", host="pypi.org", ports=[443])
        assert found.agents == {"rook": [everyone], "scout": [everyone, own]}
    die(house, "scout")
    assert policy(house).agents == {"rook": [everyone]}


def test_people_and_agents_neither_get_the_policy_nor_record_anything(house: Colony) -> None:
    for caller in (house.ann, house.bob, house.scout):
        with pytest.raises(errors.Forbidden, match="egress_policy is for the egress gate"):
            caller.call(operations.EGRESS_POLICY, schema.GetEgressPolicy())
        with pytest.raises(errors.Forbidden, match="record_egress is for the egress gate"):
            caller.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[]))


CHANGES: dict[str, Callable[[Colony], object]] = {
    "a rule": lambda house: put(house.admin, "scout", "pypi.org"),
    "a rule of all": lambda house: put(house.admin, "agents", "pypi.org"),
    "an effect": lambda house: put(house.admin, "scout", "old.example", effect="deny"),
    "ports": lambda house: put(house.admin, "scout", "old.example", 8443),
    "a rule that is gone": lambda house: drop(house.admin, "scout", "old.example"),
    "a birth": lambda house: bear(house, "newt"),
    "a death": lambda house: die(house, "rook"),
}
NO_CHANGES: dict[str, Callable[[Colony], object]] = {
    "the same rule": lambda house: put(house.bob, "scout", "old.example"),
    "a person": lambda house: house.admin.call(operations.CREATE_USER, schema.CreateUser(username="zoe", kind="ape", linux_user="zoe")),
    "a status": lambda house: house.set_status("rook", "paused"),
    "an owner": lambda house: house.admin.call(operations.SET_OWNER, schema.SetOwner(agent="rook", owner="ann")),
    "a post": lambda house: house.post(house.ann, "@scout hello"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_version_changes_with_the_policy(house: Colony, change: Callable[[Colony], object]) -> None:
    put(house.admin, "scout", "old.example")
    before = policy(house)
    change(house)
    after = policy(house)
    assert before.agents != after.agents
    assert before.version != after.version


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=list(NO_CHANGES))
def test_the_version_stays_while_the_policy_does(house: Colony, change: Callable[[Colony], object]) -> None:
    put(house.admin, "scout", "old.example")
    before = policy(house)
    house.clock.advance(60)
    change(house)
    assert policy(house) == before


def test_without_an_agent_rules_make_no_difference(house: Colony) -> None:
    for name in ("scout", "rook"):
        die(house, name)
    before = policy(house)
    assert before.agents == {}
    put(house.admin, "agents", "pypi.org")
    assert policy(house) == before


def test_a_change_that_is_undone_has_the_version_of_before(house: Colony) -> None:
    before = policy(house)
    put(house.admin, "scout", "pypi.org")
    drop(house.admin, "scout", "pypi.org")
    assert policy(house) == before


def test_another_server_on_the_same_database_has_the_same_version(house: Colony) -> None:
    put(house.admin, "scout", "pypi.org")
    other = Colony(house.database_url, house.clock)
    assert policy(other) == policy(house)
    assert policy(other, known=policy(house).version, wait=0).version == policy(house).version
    other.close()


@contextmanager
def waiting(colony: Colony, known: str) -> Iterator[Future[schema.EgressPolicy]]:
    with ThreadPoolExecutor(1) as pool:
        before = colony.gate.waiters.asleep
        future = pool.submit(policy, colony, known=known, wait=schema.MAX_WAIT_SECONDS)
        deadline = time.monotonic() + LONG
        while colony.gate.waiters.asleep == before:
            assert time.monotonic() < deadline
            assert not future.done(), future.result()
            time.sleep(0.005)
        yield future


@only_sqlite
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_whoever_waits_for_a_policy_has_it_with_the_change(house: Colony, change: Callable[[Colony], object]) -> None:
    put(house.admin, "scout", "old.example")
    known = policy(house)
    with waiting(house, known.version) as future:
        change(house)
        assert future.result(LONG) == policy(house) != known


@only_sqlite
def test_whoever_knows_another_version_or_none_does_not_wait(house: Colony) -> None:
    for known in (None, "0", "of-another.server_1"):
        assert policy(house, known=known, wait=schema.MAX_WAIT_SECONDS) == policy(house)


@only_sqlite
def test_what_changes_no_policy_ends_no_wait(house: Colony) -> None:
    put(house.admin, "scout", "old.example")
    known = policy(house)
    with waiting(house, known.version) as future:
        for change in NO_CHANGES.values():
            change(house)
        assert not future.done()
        put(house.admin, "scout", "last.example")
        assert [rule.host for rule in future.result(LONG).agents["scout"]] == ["last.example", "old.example"]


@only_sqlite
def test_a_wait_without_news_ends_with_the_same_policy(house: Colony) -> None:
    known = policy(house)
    assert policy(house, known=known.version, wait=0.05) == known


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_change_at_one_server_wakes_who_waits_at_another(house: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Colony(house.database_url, house.clock)
    known, ends = policy(other), []
    wait = other.gate.waiters.wait

    def observed(*arguments: Any) -> bool:
        ends.append(wait(*arguments))
        return ends[-1]

    monkeypatch.setattr(other.gate.waiters, "wait", observed)
    with waiting(other, known.version) as future:
        put(house.admin, "scout", "pypi.org")
        assert future.result(LONG).version != known.version
    assert ends[-1], "it was woken, and did not only look again at the end of its wait"
    other.close()


def test_rules_are_kept_by_agent_and_host(house: Colony) -> None:
    put(house.admin, "agents", "pypi.org")
    put(house.admin, "scout", "pypi.org", 443)
    kept = [(row.agent_id, row.host, row.ports, row.set_by) for row in house.rows(egress_rules)]
    assert kept == [(None, "pypi.org", "[]", house.id_of("colony")), (house.id_of("scout"), "pypi.org", "[443]", house.id_of("colony"))]
