"""How often the gate has put each secret in, and when last: counted when a connection ends, and once, however often it is told of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from colony import operations, schema
from tests.server.reaching import die, settle, settle_gate
from tests.server.samples import contact
from tests.server.support import Colony
from tests.server.test_secrets import put


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout is bob's, and both agents have a Linux user."""
    return settle(colony)


def reached(house: Colony, *secrets: str, agent: str = "scout", **more: Any) -> schema.Contact:
    return contact(house, agent, "api.example", verdict="allowed", secrets=list(secrets), **more)


def record(house: Colony, *contacts: schema.Contact) -> None:
    house.admin.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=list(contacts)))


def uses(house: Colony) -> dict[tuple[str, str], int]:
    """By agent and name."""
    return {(each.agent, each.name): each.uses for each in house.admin.call(operations.SECRETS, schema.ListSecrets()).secrets}


def test_each_connection_that_took_a_secret_along_counts(house: Colony) -> None:
    assert put(house).used_at is None
    put(house, "OTHER")
    record(house, reached(house, "TOKEN"), reached(house, "TOKEN", "OTHER"), reached(house), reached(house, "TOKEN", agent="rook"))
    assert uses(house) == {("agents", "TOKEN"): 3, ("agents", "OTHER"): 1}
    last = house.clock.now
    house.clock.now += timedelta(hours=1)
    record(house, reached(house))
    assert {each.used_at for each in house.admin.call(operations.SECRETS, schema.ListSecrets()).secrets} == {last}


def test_it_counts_once_and_when_it_ends(house: Colony) -> None:
    put(house)
    begun = reached(house, "TOKEN", is_open=True)
    ended = begun.model_copy(update={"is_open": False, "seconds": 2.0})
    record(house, begun)
    assert uses(house) == {("agents", "TOKEN"): 0}
    record(house, begun, ended, ended)
    record(house, begun)
    record(house, ended)
    assert uses(house) == {("agents", "TOKEN"): 1}


def test_what_stands_for_many_counts_as_many(house: Colony) -> None:
    put(house)
    several = reached(house, "TOKEN", times=3)
    record(house, several)
    record(house, several.model_copy(update={"times": 5}))
    record(house, several)
    assert uses(house) == {("agents", "TOKEN"): 5}


def test_an_agents_own_counts_before_everybodys(house: Colony) -> None:
    put(house)
    put(house, agent="scout")
    record(house, reached(house, "TOKEN"), reached(house, "TOKEN", agent="rook"), reached(house, "TOKEN", agent="rook"))
    assert uses(house) == {("agents", "TOKEN"): 2, ("scout", "TOKEN"): 1}


def test_another_value_has_not_been_used_yet(house: Colony) -> None:
    put(house)
    record(house, reached(house, "TOKEN"))
    assert (put(house, "TOKEN", "another-value").uses, put(house, "TOKEN", "another-value").used_at) == (0, None)


def test_what_is_nobodys_counts_nowhere(house: Colony) -> None:
    put(house, agent="rook")
    put(house)
    die(house, "rook")
    record(house, reached(house, "GONE"), reached(house, "TOKEN", agent="nobody"))
    assert uses(house) == {("agents", "TOKEN"): 0}


def test_a_use_is_no_change_that_the_gate_hears_of(house: Colony) -> None:
    gate = settle_gate(house)
    put(house)
    before = gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets())
    record(house, reached(house, "TOKEN"))
    assert gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()) == before
    assert uses(house) == {("agents", "TOKEN"): 1}
