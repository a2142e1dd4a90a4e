"""Who says who may do what, and what that must not give: more than they have, a hold on others, or a say after they have gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from colony import errors, operations, schema
from server.models.acl import MAX_ROWS, acl, role_members
from server.models.audit import audit
from tests.server.cast import token_of
from tests.server.reaching import bear, die
from tests.server.rooms import add
from tests.server.support import Colony, only_sqlite
from tests.server.test_acl import drop, house, put, read, rows, why

__all__ = ["house"]


def test_a_row_is_set_replaced_and_forgotten(house: Colony) -> None:
    row = put(house.admin, "deny", "scout", "post", "channel:garden")
    assert (row.granted_by, row.granted_at) == ("colony", house.clock.now)
    assert put(house.admin, "allow", "scout", "post", "channel:garden", grant_option=True).grant_option
    put(house.admin, "allow", "role:editors", "tool:*", "channel:*")
    assert rows(house) == ["role:editors allow tool:* channel:*", "scout allow post channel:garden"]
    assert drop(house.admin, "scout", "post", "channel:garden").effect == "allow"
    assert rows(house) == ["role:editors allow tool:* channel:*"]
    assert house.count(acl) == 1
    with pytest.raises(errors.NotFound, match="no row for principal scout, action post and scope channel:garden"):
        drop(house.admin, "scout", "post", "channel:garden")


def test_a_list_can_be_of_what_counts_for_one(house: Colony) -> None:
    house.admin.call(operations.JOIN_ROLE, schema.JoinRole(role="editors", username="rook"))
    for principal in ("agents", "apes", "rook", "role:editors", "scout"):
        put(house.admin, "allow", principal, "read", "channel:garden")
    assert rows(house, principal="rook") == [f"{name} allow read channel:garden" for name in ("agents", "role:editors", "rook")]
    assert rows(house, principal="role:editors") == ["role:editors allow read channel:garden"]
    assert "apes allow * *" in rows(house, principal="ann", defaults=True)
    with pytest.raises(errors.NotFound, match="no principal newt"):
        rows(house, principal="newt")


def test_who_has_a_role_can_be_seen_and_changed_by_administrators(house: Colony) -> None:
    for name in ("ann", "scout", "ann"):
        found = house.admin.call(operations.JOIN_ROLE, schema.JoinRole(role="editors", username=name))
    assert [member.username for member in found.members] == ["ann", "scout"]
    assert house.count(role_members) == 2
    left = house.admin.call(operations.LEAVE_ROLE, schema.LeaveRole(role="editors", username="ann"))
    assert [member.username for member in left.members] == ["scout"]
    seen = house.ann.call(operations.ROLES, schema.ListRoles()).members
    assert [(member.role, member.username) for member in seen] == [("editors", "scout")]


@pytest.mark.parametrize(
    ("principal", "action", "scope", "error"),
    [
        ("nobody", "post", "*", errors.NotFound),
        ("scout", "pots", "*", errors.Invalid),
        ("scout", "tool:pots", "*", errors.Invalid),
        ("scout", "post", "channel:gardn", errors.NotFound),
        ("scout", "post", "agent:nobody", errors.NotFound),
    ],
)
def test_a_row_about_what_is_misspelt_is_refused(
    house: Colony, principal: str, action: str, scope: str, error: type[errors.ColonyError]
) -> None:
    with pytest.raises(error):
        put(house.admin, "deny", principal, action, scope)
    assert rows(house) == []


@pytest.mark.parametrize("action", ["egress:pypi.org", "Post", "tool:", "*:post", "post:*", "tool:post:x", "a b"])
def test_what_is_no_action_is_invalid(house: Colony, action: str) -> None:
    with house.http(token_of("ann")) as http:
        fields = {"principal": "scout", "action": action, "effect": "allow"}
        assert http.put("/api/acl", json=fields).status_code == 400


@pytest.mark.parametrize(
    ("effect", "principal", "action", "scope", "may"),
    [
        ("deny", "scout", "post", "channel:general", True),  # his agent
        ("deny", "scout", "*", "*", True),
        ("allow", "scout", "read", "channel:attic", True),  # which he may himself
        ("allow", "scout", "read", "channel:garden", False),  # which he may not
        ("allow", "scout", "read", "channel:*", False),
        ("allow", "scout", "tool:read", "channel:garden", False),
        ("allow", "scout", "*", "*", False),
        ("deny", "apes", "set_status", "agent:scout", True),  # what is done to his agent
        ("allow", "rook", "egress_log", "agent:scout", True),
        ("deny", "rook", "post", "channel:general", False),
        ("allow", "rook", "post", "channel:attic", False),
        ("deny", "apes", "*", "agent:rook", False),
        ("deny", "ann", "*", "agent:*", False),
        ("deny", "bob", "post", "channel:attic", False),
        ("allow", "bob", "read", "channel:garden", False),
    ],
)
@only_sqlite
def test_owners_decide_about_their_agents_alone(
    house: Colony, effect: schema.Effect, principal: str, action: str, scope: str, may: bool
) -> None:
    put(house.admin, "deny", "bob", "read", "channel:garden")
    before = house.count(acl)
    if may:
        assert put(house.bob, effect, principal, action, scope).granted_by == "bob"
    else:
        with pytest.raises(errors.Forbidden):
            put(house.bob, effect, principal, action, scope)
    assert house.count(acl) == before + may


def test_a_grant_is_passed_on_and_never_widened(house: Colony) -> None:
    with pytest.raises(errors.Forbidden, match="you may not set `rook allow read channel:garden`"):
        put(house.ann, "allow", "rook", "read", "channel:garden")
    put(house.admin, "allow", "ann", "read", "channel:*", grant_option=True)
    put(house.ann, "allow", "rook", "read", "channel:garden")
    assert read(house.rook, "garden") == []
    for effect, action, scope in (
        ("deny", "read", "channel:garden"), ("allow", "post", "channel:garden"), ("allow", "read", "*"), ("allow", "*", "channel:garden"),
    ):  # fmt: skip
        with pytest.raises(errors.Forbidden):
            put(house.ann, effect, "rook", action, scope)  # type: ignore[arg-type]
    put(house.admin, "deny", "apes", "read", "channel:attic")
    for scope in ("channel:attic", "channel:*", "channel:@own"):
        with pytest.raises(errors.Forbidden):
            put(house.ann, "allow", "rook", "read", scope)
    with pytest.raises(errors.Forbidden):
        put(house.rook, "allow", "scout", "read", "channel:garden")


def test_a_row_is_changed_by_who_has_set_it_and_administrators(house: Colony) -> None:
    put(house.admin, "deny", "scout", "post", "channel:attic")
    changes: tuple[Callable[[], object], ...] = (
        lambda: put(house.bob, "allow", "scout", "post", "channel:attic"),
        lambda: drop(house.bob, "scout", "post", "channel:attic"),
    )
    for change in changes:
        with pytest.raises(errors.Forbidden, match="colony has set `scout deny post channel:attic`"):
            change()
    put(house.bob, "deny", "scout", "post", "channel:garden")
    house.admin.call(operations.SET_OWNER, schema.SetOwner(agent="scout", owner="ann"))
    with pytest.raises(errors.NotFound):
        drop(house.ann, "scout", "post", "channel:garden")
    with pytest.raises(errors.Forbidden):
        put(house.bob, "allow", "scout", "post", "channel:garden")
    drop(house.admin, "scout", "post", "channel:attic")
    assert rows(house) == []


def test_rows_end_with_whom_they_speak_of(house: Colony) -> None:
    house.admin.call(operations.JOIN_ROLE, schema.JoinRole(role="editors", username="scout"))
    put(house.admin, "allow", "scout", "read", "channel:garden")
    put(house.admin, "allow", "rook", "turn", "agent:scout")
    put(house.admin, "allow", "ann", "read", "channel:garden")
    die(house, "scout")
    assert rows(house) == ["ann allow read channel:garden"]
    with pytest.raises(errors.Conflict, match="scout has left the colony"):
        put(house.admin, "allow", "scout", "read", "channel:garden")
    assert why(house, "scout", "read", "channel:garden") == ("deny", "scout has left the colony")
    bear(house, "scout")
    assert why(house, "scout", "read", "channel:garden") == ("deny", "no row allows it")
    house.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="ann"))
    assert (house.count(acl), house.count(role_members)) == (0, 0)


def test_who_leaves_has_no_say_any_more_nor_has_who_gets_the_name(house: Colony) -> None:
    put(house.bob, "deny", "rook", "turn", "agent:scout")
    put(house.admin, "allow", "bob", "create_channel", grant_option=True)
    put(house.bob, "allow", "role:editors", "create_channel")
    house.admin.call(operations.REMOVE_USER, schema.RemoveUser(username="bob"))
    assert rows(house) == []
    house.clock.advance(1)
    again = add(house, "bob", "ape")
    with pytest.raises(errors.Forbidden, match="may not pass that on"):
        put(again, "allow", "role:editors", "create_channel")


def test_why_asks_the_egress_rules_about_hosts(house: Colony) -> None:
    house.bob.call(operations.SET_EGRESS, schema.SetEgress(agent="scout", effect="allow", host="pypi.org"))
    assert why(house, "scout", "egress:PyPI.org") == ("allow", "allowed by the rule for pypi.org")
    assert why(house, "scout", "egress:pypi.org:22") == ("deny", "no rule allows it")
    with pytest.raises(errors.Invalid, match="action: "):
        why(house, "scout", "egress:https://pypi.org/")
    with pytest.raises(errors.NotFound, match="no agent ann"):
        why(house, "ann", "egress:pypi.org")


def test_the_audit_and_the_events_say_who_changed_what(house: Colony) -> None:
    before = house.ann.call(operations.EVENTS, schema.ListEvents()).position
    put(house.bob, "deny", "scout", "post", "channel:garden")
    seen = house.ann.call(operations.EVENTS, schema.ListEvents(since=before)).events
    told = {"principal": "scout", "action": "post", "scope": "channel:garden", "effect": "deny"}
    assert [(event.deed.actor, event.deed.operation, event.deed.fields) for event in seen if event.deed] == [("bob", "set_acl", told)]
    assert house.count(audit, audit.c.operation == "set_acl") == 1


def test_the_word_for_a_kind_is_no_name(house: Colony) -> None:
    for name in ("services", "gateways"):
        with pytest.raises(errors.Conflict, match=f"{name} is reserved"):
            house.admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind="ape"))


def test_a_row_that_the_colony_never_wrote_denies(house: Colony) -> None:
    put(house.admin, "allow", "scout", "read", "channel:garden")
    house.gate.database.write(lambda connection: connection.execute(acl.update().values(effect="maybe")))
    house.gate.rights.forget()
    with pytest.raises(errors.Forbidden, match="scout deny read channel:garden"):
        read(house.scout, "garden")


def test_an_owner_can_not_have_its_agent_pass_on_what_it_may_not_itself(house: Colony) -> None:
    put(house.bob, "allow", "scout", "events")
    with pytest.raises(errors.Forbidden, match="may not pass that on"):
        put(house.bob, "allow", "scout", "*", grant_option=True)
    with pytest.raises(errors.Forbidden):
        put(house.scout, "allow", "agents", "events")


def test_many_rows_of_one_keep_no_administrator_from_setting_another(house: Colony) -> None:
    for number in range(MAX_ROWS):
        put(house.bob, "deny", f"role:r{number}", "post", "agent:scout")
    with pytest.raises(errors.LimitReached, match=f"you have set {MAX_ROWS} rows"):
        put(house.bob, "deny", "role:more", "post", "agent:scout")
    put(house.bob, "deny", "role:r1", "post", "agent:scout")
    put(house.admin, "deny", "scout", "post", "channel:general")
    with pytest.raises(errors.Forbidden):
        house.post(house.scout, "hi")


def test_what_a_former_owner_said_is_gone(house: Colony) -> None:
    put(house.bob, "deny", "apes", "*", "agent:scout")
    put(house.bob, "deny", "scout", "read", "channel:general")
    put(house.admin, "deny", "scout", "retry")
    house.admin.call(operations.SET_OWNER, schema.SetOwner(agent="scout", owner="ann"))
    assert rows(house) == ["scout deny retry *"]
    house.ann.call(operations.SET_LIMITS, schema.SetLimits(agent="scout", turns_per_hour=3))


def test_nothing_is_said_about_the_dead(house: Colony) -> None:
    die(house, "scout")
    for caller in (house.bob, house.admin):
        with pytest.raises((errors.Conflict, errors.Forbidden)):
            put(caller, "deny", "apes", "*", "agent:scout")
    assert house.count(acl) == 0
