"""A call of each operation that succeeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from colony import errors, operations, schema
from colony.client import Client
from tests.server.reaching import settle_gate
from tests.server.support import Colony

SECRET = "a-text-that-only-the-receiver-may-read"
Sample = tuple[Client, schema.Request]


def _running(colony: Colony) -> schema.Turn:
    colony.post(colony.ann, "@scout hello")
    return colony.turn(colony.scout)


def _finish(colony: Colony) -> Sample:
    turn = _running(colony)
    return colony.in_turn(turn), schema.FinishTurn(id=turn.id, reply=SECRET)


def _fail(colony: Colony) -> Sample:
    turn = _running(colony)
    return colony.in_turn(turn), schema.FailTurn(id=turn.id, code="crashed", detail=SECRET)


def _renew(colony: Colony) -> Sample:
    turn = _running(colony)
    return colony.in_turn(turn), schema.RenewTurn(id=turn.id)


def _claim(colony: Colony) -> Sample:
    colony.post(colony.ann, "@scout hello")
    return colony.scout, schema.ClaimTurn()


def _ack(colony: Colony) -> Sample:
    colony.post(colony.ann, "@bob hello")
    return colony.bob, schema.AckInbox(ids=[item.id for item in colony.inbox(colony.bob)])


def _retry(colony: Colony) -> Sample:
    asked = colony.post(colony.ann, "@scout hello")
    colony.fail(colony.turn(colony.scout), permanent=True)
    return colony.ann, schema.RetryMessage(id=asked.id)


def contact(colony: Colony, linux_user: str = "rook", host: str = "pypi.org", **more: Any) -> schema.Contact:
    """A denied one that begins now."""
    told = {"id": str(uuid4()), "linux_user": linux_user, "host": host, "port": 443, "verdict": "denied", "kind": "connect"}
    return schema.Contact.model_validate(told | {"began_at": colony.clock.now} | more)


def _drop_egress(colony: Colony) -> Sample:
    colony.admin.call(operations.SET_EGRESS, schema.SetEgress(agent="rook", effect="allow", host="pypi.org"))
    return colony.admin, schema.DropEgress(agent="rook", host="pypi.org")


def _meter(colony: Colony) -> Sample:
    linux_user = "newt"
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username=linux_user, kind="agent", linux_user=linux_user))
    colony.set_status(linux_user, "healthy")
    colony.post(colony.ann, f"@{linux_user} hello")
    colony.turn(colony.client(colony.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=linux_user)).token))
    return colony.admin, schema.Meter(id=str(uuid4()), linux_user=linux_user, model=SECRET, cost_usd=0.5)


def _drop_secret(colony: Colony) -> Sample:
    colony.admin.call(operations.SET_SECRET, schema.SetSecret(name="TOKEN", value=SECRET, hosts=["api.example"]))
    return colony.admin, schema.DropSecret(name="TOKEN")


def _acl_row(colony: Colony) -> schema.SetAcl:
    colony.open_channel("garden")
    return schema.SetAcl(principal="rook", action="post", scope="channel:garden", effect="deny")


def _drop_acl(colony: Colony) -> Sample:
    row = _acl_row(colony)
    colony.admin.call(operations.SET_ACL, row)
    return colony.admin, schema.DropAcl(principal=row.principal, action=row.action, scope=row.scope)


def _held(colony: Colony) -> int:
    colony.admin.call(operations.SET_ACL, schema.SetAcl(principal="rook", action="post", effect="hold"))
    with pytest.raises(errors.Held):
        colony.post(colony.rook, SECRET)
    return colony.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals[0].id


def _egress_secrets(colony: Colony) -> Sample:
    return settle_gate(colony), schema.GetEgressSecrets()


def room(colony: Colony, *guests: str, name: str = "attic") -> str:
    """A private channel of ann's with these guests."""
    colony.ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name, private=True))
    if guests:
        colony.ann.call(operations.INVITE, schema.InviteMembers(channel=name, usernames=list(guests)))
    return name


SAMPLES: dict[str, Callable[[Colony], Sample]] = {
    "whoami": lambda colony: (colony.ann, schema.Whoami()),
    "users": lambda colony: (colony.ann, schema.ListUsers()),
    "create_user": lambda colony: (colony.admin, schema.CreateUser(username="zoe", kind="ape")),
    "issue_token": lambda colony: (colony.admin, schema.IssueToken(username="bob")),
    "revoke_token": lambda colony: (colony.admin, schema.RevokeToken(username="bob")),
    "remove_user": lambda colony: (colony.admin, schema.RemoveUser(username="bob")),
    "channels": lambda colony: (colony.ann, schema.ListChannels()),
    "create_channel": lambda colony: (colony.ann, schema.CreateChannel(name="garden")),
    "watch": lambda colony: (colony.bob, schema.WatchChannel(channel="general")),
    "unwatch": lambda colony: (colony.bob, schema.UnwatchChannel(channel="general")),
    "members": lambda colony: (colony.ann, schema.ListMembers(channel=room(colony))),
    "invite": lambda colony: (colony.ann, schema.InviteMembers(channel=room(colony), usernames=["bob"])),
    "leave": lambda colony: (colony.bob, schema.LeaveChannel(channel=room(colony, "bob"))),
    "remove_member": lambda colony: (colony.ann, schema.RemoveMember(channel=room(colony, "bob"), username="bob")),
    "read": lambda colony: (colony.ann, schema.ReadMessages(channel="general")),
    "post": lambda colony: (colony.ann, schema.PostMessage(channel="general", body=SECRET)),
    "explain": lambda colony: (colony.ann, schema.ExplainMessage(id=colony.post(colony.ann, "@scout hello").id)),
    "retry": _retry,
    "inbox": lambda colony: (colony.ann, schema.ReadInbox()),
    "ack": _ack,
    "claim": _claim,
    "finish": _finish,
    "fail": _fail,
    "renew": _renew,
    "stop": lambda colony: (colony.ann, schema.StopTurn(id=_running(colony).id)),
    "turn": lambda colony: (colony.ann, schema.GetTurn(id=_running(colony).id)),
    "turns": lambda colony: (colony.ann, schema.ListTurns()),
    "agents": lambda colony: (colony.ann, schema.ListAgents()),
    "heartbeat": lambda colony: (colony.scout, schema.Heartbeat(agent="scout")),
    "events": lambda colony: (colony.ann, schema.ListEvents()),
    "set_status": lambda colony: (colony.admin, schema.SetStatus(agent="rook", status="paused")),
    "set_owner": lambda colony: (colony.admin, schema.SetOwner(agent="rook", owner="ann")),
    "set_limits": lambda colony: (colony.admin, schema.SetLimits(agent="rook", turns_per_hour=7)),
    "egress_rules": lambda colony: (colony.ann, schema.ListEgress(agent="rook")),
    "set_egress": lambda colony: (colony.admin, schema.SetEgress(agent="rook", effect="allow", host="pypi.org")),
    "drop_egress": _drop_egress,
    "egress_policy": lambda colony: (colony.admin, schema.GetEgressPolicy()),
    "record_egress": lambda colony: (colony.admin, schema.RecordEgress(contacts=[contact(colony, reason=SECRET)])),
    "meter": _meter,
    "secrets": lambda colony: (colony.ann, schema.ListSecrets()),
    "set_secret": lambda colony: (colony.admin, schema.SetSecret(name="TOKEN", value=SECRET, hosts=["api.example"])),
    "drop_secret": _drop_secret,
    "egress_secrets": _egress_secrets,
    "acl": lambda colony: (colony.ann, schema.ListAcl()),
    "set_acl": lambda colony: (colony.admin, _acl_row(colony)),
    "drop_acl": _drop_acl,
    "explain_acl": lambda colony: (colony.ann, schema.ExplainAcl(user="rook", action="post")),
    "roles": lambda colony: (colony.ann, schema.ListRoles()),
    "join_role": lambda colony: (colony.admin, schema.JoinRole(role="editors", username="ann")),
    "leave_role": lambda colony: (colony.admin, schema.LeaveRole(role="editors", username="ann")),
    "approvals": lambda colony: (colony.ann, schema.ListApprovals()),
    "approve": lambda colony: (colony.ann, schema.Approve(id=_held(colony))),
    "refuse": lambda colony: (colony.ann, schema.Refuse(id=_held(colony))),
    "egress_log": lambda colony: (colony.scout, schema.ReadEgressLog(agent="scout")),
}
