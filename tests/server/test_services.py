"""What a service may: one of them is the gate, and the others are told who they are and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from colony.config import GATE_USER
from colony.operations import OPERATIONS, Operation
from tests.server.machine import NOBODY, peer
from tests.server.reaching import settle, settle_gate
from tests.server.rooms import add
from tests.server.samples import SAMPLES, contact
from tests.server.support import Colony, only_sqlite
from tests.server.test_secrets import VALUE, put

FOR_THE_GATE = [operation for operation in OPERATIONS.values() if operation.who == "gate"]
for_the_gate = pytest.mark.parametrize("operation", FOR_THE_GATE, ids=lambda operation: operation.name)


@pytest.fixture
def house(colony: Colony) -> Colony:
    return settle(colony)


def prometheus(house: Colony) -> Client:
    """As README has one make it."""
    return add(house, "prometheus", "service")


def its_token(house: Colony) -> Client:
    """The gate's own account, with a token."""
    settle_gate(house)
    return house.client(house.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=GATE_USER)).token)


def another_service(house: Colony) -> Client:
    add(house, "bell", "service", linux_user="nobody")
    return house.peer(peer(NOBODY))


def another_kind(house: Colony) -> Client:
    add(house, GATE_USER, "gateway", linux_user="nobody")
    return house.peer(peer(NOBODY))


@only_sqlite
@for_the_gate
@pytest.mark.parametrize("other", [prometheus, its_token, another_service, another_kind])
def test_what_is_the_gates_is_refused_to_every_other_service(house: Colony, operation: Operation[Any, Any], other: Any) -> None:
    request = operation.request(**_some(house, operation))
    with pytest.raises(errors.Forbidden, match=f"{operation.name} is for the egress gate"):
        other(house).call(operation, request)


@only_sqlite
@for_the_gate
def test_the_gate_itself_is_not_refused(house: Colony, operation: Operation[Any, Any]) -> None:
    house.post(house.ann, "@rook")
    house.turn(house.rook)
    request = operation.request(**_some(house, operation))
    assert isinstance(settle_gate(house).call(operation, request), operation.response)


def statuses(house: Colony) -> dict[str, str]:
    return {agent.username: agent.status for agent in house.ann.call(operations.AGENTS, schema.ListAgents()).agents}


def _some(house: Colony, operation: Operation[Any, Any]) -> dict[str, Any]:
    known = {"id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "linux_user": "rook", "model": "m", "cost_usd": 0.0}
    known |= {"contacts": [contact(house, "rook")]}
    return {name: known[name] for name, field in operation.request.model_fields.items() if field.is_required()}


def test_whose_token_lies_with_the_metrics_is_told_no_secret_and_pauses_nobody(house: Colony) -> None:
    put(house)
    service = prometheus(house)
    with pytest.raises(errors.Forbidden) as refused:
        service.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets())
    assert VALUE not in refused.value.detail
    with pytest.raises(errors.Forbidden):
        service.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[contact(house, "rook", holds_honeytoken=True)]))
    assert statuses(house) == {"rook": "healthy", "scout": "healthy"}
    gate = settle_gate(house)
    assert VALUE in gate.call(operations.EGRESS_SECRETS, schema.GetEgressSecrets()).model_dump_json()
    gate.call(operations.RECORD_EGRESS, schema.RecordEgress(contacts=[contact(house, "rook", holds_honeytoken=True)]))
    assert statuses(house) == {"rook": "paused", "scout": "healthy"}


@only_sqlite
@pytest.mark.parametrize("operation", [each for each in OPERATIONS.values() if each.who == "user"], ids=lambda operation: operation.name)
def test_a_service_may_do_nothing_but_say_who_it_is(house: Colony, operation: Operation[Any, Any]) -> None:
    _, request = SAMPLES[operation.name](house)
    service = prometheus(house)
    if operation is operations.WHOAMI:
        assert service.call(operation, request).kind == "service"
        return
    with pytest.raises((errors.Forbidden, errors.NotFound)):
        service.call(operation, request)


@only_sqlite
def test_a_service_reads_the_metrics(house: Colony) -> None:
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="prometheus", kind="service"))
    token = house.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="prometheus")).token
    with house.http(token) as http:
        assert http.get("/metrics").status_code == 200
    with house.http() as http:
        assert http.get("/metrics").status_code == 401


@only_sqlite
def test_a_row_lets_a_service_do_more(house: Colony) -> None:
    bell = add(house, "bell", "service")
    house.admin.call(operations.SET_ACL, schema.SetAcl(principal="bell", action="post", scope="channel:general", effect="allow"))
    assert house.post(bell, "ding", type="notice").author == "bell"
    with pytest.raises(errors.Forbidden, match="no row allows it"):
        bell.call(operations.EVENTS, schema.ListEvents())


@only_sqlite
def test_no_row_is_about_what_is_the_gates(house: Colony) -> None:
    gate = settle_gate(house)
    with pytest.raises(errors.Invalid, match="is the gate's alone and is not judged"):
        house.admin.call(operations.SET_ACL, schema.SetAcl(principal=GATE_USER, action="meter", effect="deny"))
    house.admin.call(operations.SET_ACL, schema.SetAcl(principal="services", action="*", effect="deny"))
    assert gate.call(operations.EGRESS_POLICY, schema.GetEgressPolicy()).agents.keys() == {"rook", "scout"}
    assert [may_have_secrets(house, user) for user in (GATE_USER, "bob")] == ["allow", "deny"]


def may_have_secrets(house: Colony, user: str) -> str:
    return house.ann.call(operations.EXPLAIN_ACL, schema.ExplainAcl(user=user, action="egress_secrets")).effect
