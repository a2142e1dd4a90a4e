"""The one way in: who may, what is fenced off, and what the audit holds afterwards."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from colony import errors, schema
from colony.operations import OPERATIONS, POST
from server import gate
from server.models.audit import audit
from server.models.tables import TABLES
from server.refusals import A_MINUTE
from tests.server.cast import token_of
from tests.server.samples import SAMPLES, SECRET
from tests.server.support import AnyOperation, Colony, only_sqlite, problem

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
MUTATING = [operation for operation in OPERATIONS.values() if operation.mutates]
every_mutation = pytest.mark.parametrize("operation", MUTATING, ids=lambda operation: operation.name)
every_audited = pytest.mark.parametrize(
    "operation", [operation for operation in MUTATING if operation.is_audited], ids=lambda operation: operation.name
)


def everything_but_the_audit(colony: Colony) -> dict[str, list[Any]]:
    """Nor when somebody was last here, which is written down whatever became of what they wanted."""
    kept = [table for table in TABLES if table is not audit]
    return {table.name: [{**row._mapping, "last_seen_at": None} for row in colony.rows(table)] for table in kept}


def send_nonsense(http: httpx.Client, operation: AnyOperation, request: schema.Request) -> httpx.Response:
    path = operation.path.format(**request.model_dump())
    if operation.method in ("GET", "DELETE"):
        return http.request(operation.method, path, params={"given": ["once", "twice"]})
    return http.request(operation.method, path, content=b"{")


@only_sqlite
@every_operation
def test_every_operation_refuses_a_wrong_token_and_audits_once(colony: Colony, operation: AnyOperation) -> None:
    _, request = SAMPLES[operation.name](colony)
    before, held = colony.count(audit), everything_but_the_audit(colony)
    with pytest.raises(errors.Unauthenticated):
        colony.eve.call(operation, request)
    with pytest.raises(errors.Unauthenticated):
        colony.stranger.call(operation, request)
    rows = [(operation.name, None, "refused", "unauthenticated")] * 2 if operation.mutates and operation.is_audited else []
    assert colony.audit()[before:] == rows
    assert everything_but_the_audit(colony) == held


@only_sqlite
@every_operation
def test_every_operation_for_some_kind_refuses_a_person_and_audits_once(colony: Colony, operation: AnyOperation) -> None:
    _, request = SAMPLES[operation.name](colony)
    before, held = colony.count(audit), everything_but_the_audit(colony)
    if operation.who == "user":
        return  # set_status and set_limits judge by themselves: see test_agents
    with pytest.raises(errors.Forbidden):
        colony.ann.call(operation, request)
    rows = [(operation.name, "ann", "refused", "forbidden")] if operation.mutates and operation.is_audited else []
    assert colony.audit()[before:] == rows
    assert everything_but_the_audit(colony) == held


@every_operation
def test_every_operation_leaves_exactly_one_audit_row_if_it_changes_something(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    before = colony.count(audit)
    assert isinstance(caller.call(operation, request), operation.response)
    assert len(colony.audit()[before:]) == (operation.mutates and operation.is_audited)
    assert all(row[0] == operation.name and row[2:] == ("done", None) for row in colony.audit()[before:])


@only_sqlite
@every_audited
def test_a_refused_change_leaves_exactly_one_audit_row(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    before, held = colony.count(audit), everything_but_the_audit(colony)
    with pytest.raises(errors.Invalid, match="colour"):
        caller.call(operation, type("Coloured", (type(request),), {"__annotations__": {"colour": str}})(**dict(request), colour="red"))
    assert [row[2:] for row in colony.audit()[before:]] == [("refused", "invalid")]
    assert everything_but_the_audit(colony) == held


@only_sqlite
@every_audited
def test_a_body_that_is_no_json_leaves_exactly_one_audit_row(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    before = colony.count(audit)
    assert problem(send_nonsense(caller._http, operation, request))["code"] == "invalid"
    assert [row[0] for row in colony.audit()[before:]] == [operation.name]


@only_sqlite
@every_operation
def test_a_stranger_with_a_malformed_body_is_told_nothing_but_who_he_is_not(colony: Colony, operation: AnyOperation) -> None:
    _, request = SAMPLES[operation.name](colony)
    with colony.http("nobody's token") as http:
        assert problem(send_nonsense(http, operation, request))["code"] == "unauthenticated"


@every_mutation
def test_a_crash_keeps_nothing_and_is_audited_once(colony: Colony, operation: AnyOperation, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, request = SAMPLES[operation.name](colony)
    before, held = colony.count(audit), everything_but_the_audit(colony)
    handler = gate.HANDLERS[operation.name]

    def crash(call: gate.Call, request: schema.Request) -> schema.Response:
        handler(call, request)
        raise ZeroDivisionError(SECRET)

    monkeypatch.setitem(gate.HANDLERS, operation.name, crash)
    with pytest.raises(errors.ColonyError) as raised:
        caller.call(operation, request)
    assert type(raised.value) is errors.ColonyError
    assert SECRET not in raised.value.detail
    rows = [("refused", "crashed")] if operation.is_audited else []
    assert [row[2:] for row in colony.audit()[before:]] == rows
    assert everything_but_the_audit(colony) == held


@only_sqlite
@every_audited
def test_the_audit_holds_no_token_and_nothing_that_people_wrote(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    answer = caller.call(operation, request)
    with pytest.raises(errors.Unauthenticated):
        colony.eve.call(operation, request)
    kept = json.dumps([list(map(str, row)) for row in colony.rows(audit)])
    assert SECRET not in kept
    assert not isinstance(answer, schema.Token) or answer.token not in kept
    assert "-s-own-token" not in kept


@every_mutation
def test_a_stale_attempt_can_change_nothing(colony: Colony, operation: AnyOperation) -> None:
    colony.post(colony.ann, "@scout hello")
    colony.post(colony.ann, "@scout hello", channel=colony.open_channel("garden"))
    turn = colony.turn(colony.scout)
    again = colony.turn(colony.scout, take_over=True)
    assert (again.id, again.attempt) == (turn.id, turn.attempt + 1)
    _, request = SAMPLES["heartbeat" if operation.name == "heartbeat" else "post"](colony)
    known = {"id": turn.id, "code": "crashed", "ids": [turn.items[0].id], "username": "zoe", "kind": "ape", "name": "attic"}
    known |= {"channel": "general", "body": "late", "agent": "scout", "status": "paused"}
    known |= {"effect": "allow", "host": "pypi.org", "contacts": []}
    known |= {"linux_user": "scout", "model": "m", "cost_usd": 0.0, "value": "a-secret-value", "hosts": ["pypi.org"], "usernames": ["bob"]}
    known |= {"principal": "rook", "action": "post", "role": "editors", "user": "rook"}
    if operation.name == "claim":
        known["kind"] = "answer"
    if operation.name == "meter":
        known["id"] = str(uuid4())
    if operation.name in ("set_secret", "drop_secret"):
        known["name"] = "TOKEN"
    request = operation.request(**{name: known[name] for name, field in operation.request.model_fields.items() if field.is_required()})
    before, held = colony.count(audit), everything_but_the_audit(colony)
    with pytest.raises(errors.Forbidden if operation.who in ("admin", "gate") else errors.StaleTurn):
        colony.in_turn(turn).call(operation, request)
    assert everything_but_the_audit(colony) == held
    assert len(colony.audit()[before:]) == operation.is_audited


@only_sqlite
@every_operation
def test_a_turn_of_another_agent_or_none_is_stale(colony: Colony, operation: AnyOperation) -> None:
    if operation.who in ("admin", "gate"):
        return
    caller, request = SAMPLES[operation.name](colony)
    colony.post(colony.ann, "@rook hello")
    foreign = colony.turn(colony.rook)
    username = caller.call(OPERATIONS["whoami"], schema.Whoami()).username if caller is not colony.admin else "scout"
    for turn in (f"{foreign.id}.1", "999.1"):
        if username != "rook":
            with pytest.raises(errors.StaleTurn):
                colony.client(token_of(username), turn).call(operation, request)


@only_sqlite
@pytest.mark.parametrize("header", ["", "7", "7.", ".1", "7.1.1", "-7.1", "7.-1", "7.1 ; 8.1", "x.y", "7.1e3", "9" * 400 + ".1", "+7.1"])
def test_a_malformed_turn_header_is_refused(colony: Colony, header: str) -> None:
    with colony.http(token_of("scout")) as http:
        answer = http.post("/api/channels/general/messages", json={"body": "hi"}, headers={"Colony-Turn": header})
        assert problem(answer)["code"] == "invalid"
        assert "Colony-Turn" in problem(answer)["detail"]
    assert colony.read() == []


def test_a_huge_turn_number_is_stale_not_a_crash(colony: Colony) -> None:
    with pytest.raises(errors.StaleTurn):
        colony.client(token_of("scout"), f"{10**18}.{10**9}").call(POST, schema.PostMessage(channel="general", body="hi"))


def test_a_running_turn_signs_what_its_agent_posts(colony: Colony) -> None:
    colony.post(colony.ann, "@scout hello")
    turn = colony.turn(colony.scout)
    message = colony.post(colony.in_turn(turn), "on it", client_id=f"{turn.id}:0")
    assert (message.turn_id, message.hops) == (turn.id, 1)
    assert colony.rows(audit)[-1].turn_id == turn.id


def test_the_audit_says_who_did_what_to_what(colony: Colony) -> None:
    colony.post(colony.ann, "hello", client_id="c1", type="note")
    row = colony.rows(audit)[-1]
    assert (row.operation, row.target, row.surface, row.actor_id) == ("post", "general", "http", colony.id_of("ann"))
    assert json.loads(row.params) == {"client_id": "c1", "type": "note"}


@only_sqlite
def test_who_is_refused_very_often_does_not_fill_the_audit_and_hides_nobody_else(colony: Colony) -> None:
    for _ in range(A_MINUTE + 5):
        for caller in (colony.rook, colony.eve):
            with pytest.raises(errors.ColonyError):
                colony.post(caller, "hello", "nowhere")
    with pytest.raises(errors.NotFound):
        colony.post(colony.ann, "hello", "nowhere")
    refused = Counter(actor for _, actor, outcome, _ in colony.audit() if outcome == "refused")
    assert refused == {"rook": A_MINUTE, None: A_MINUTE, "ann": 1}
    colony.post(colony.rook, "what is done is always written down")
    assert colony.audit()[-1][:3] == ("post", "rook", "done")
    colony.clock.advance(60)
    with pytest.raises(errors.NotFound):
        colony.post(colony.rook, "hello", "nowhere")
    assert colony.audit()[-1][:3] == ("post", "rook", "refused")
