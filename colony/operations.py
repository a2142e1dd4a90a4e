"""The operations a colony offers: one row each, from which routes, tools, commands and the API description are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from colony import schema

Q = TypeVar("Q", bound=schema.Request)
R = TypeVar("R", bound=schema.Response)
Who = Literal["user", "agent", "gate", "admin"]  # anyone known; agents only; the egress gate and administrators; administrators only


@dataclass(frozen=True)
class Operation(Generic[Q, R]):
    name: str  # also the audit entry, the tool and the handler
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    request: type[Q]
    response: type[R]
    who: Who = "user"
    is_tool: bool = False  # offered to agents inside their turns
    is_audited: bool = True  # meaningful only for those that mutate
    is_sign_of_life: bool = False  # of an agent: that it called is noted, and nothing else changes
    streams: bool = False  # offered as server-sent events, too
    closes_turn: bool = False  # judges the fence itself: repeating it on a closed turn is harmless
    target: tuple[str, str] | None = None  # what it is done to, where no field says so by its name: a field, and what that holds

    @property
    def mutates(self) -> bool:
        return self.method != "GET" and not self.is_sign_of_life

    @property
    def summary(self) -> str:
        return (self.request.__doc__ or "").strip()

    @cached_property
    def scope(self) -> tuple[str, str] | None:
        """The field that names what it is done to, and what that is: a channel or an agent, a message or turn there, or an inbox."""
        named = ((name, name) for name in ("channel", "agent") if name in self.request.model_fields)
        return self.target or next(named, None)

    @cached_property
    def path_fields(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)


WHOAMI = Operation("whoami", "GET", "/api/whoami", schema.Whoami, schema.User, is_tool=True)
USERS = Operation("users", "GET", "/api/users", schema.ListUsers, schema.Users, is_tool=True)
CREATE_USER = Operation("create_user", "POST", "/api/users", schema.CreateUser, schema.User, who="admin")
ISSUE_TOKEN = Operation("issue_token", "POST", "/api/users/{username}/token", schema.IssueToken, schema.Token, who="admin")
REVOKE_TOKEN = Operation("revoke_token", "DELETE", "/api/users/{username}/token", schema.RevokeToken, schema.User, who="admin")
REMOVE_USER = Operation("remove_user", "DELETE", "/api/users/{username}", schema.RemoveUser, schema.User, who="admin")

CHANNELS = Operation("channels", "GET", "/api/channels", schema.ListChannels, schema.Channels, is_tool=True)
CREATE_CHANNEL = Operation("create_channel", "POST", "/api/channels", schema.CreateChannel, schema.Channel, target=("name", "channel"))
WATCH = Operation("watch", "PUT", "/api/channels/{channel}/watch", schema.WatchChannel, schema.Channel)
UNWATCH = Operation("unwatch", "DELETE", "/api/channels/{channel}/watch", schema.UnwatchChannel, schema.Channel)

MEMBERS = Operation("members", "GET", "/api/channels/{channel}/members", schema.ListMembers, schema.Members)
INVITE = Operation("invite", "POST", "/api/channels/{channel}/members", schema.InviteMembers, schema.Members)
LEAVE = Operation("leave", "DELETE", "/api/channels/{channel}/members", schema.LeaveChannel, schema.Member)
REMOVE_MEMBER = Operation("remove_member", "DELETE", "/api/channels/{channel}/members/{username}", schema.RemoveMember, schema.Member)

READ = Operation("read", "GET", "/api/channels/{channel}/messages", schema.ReadMessages, schema.Messages, is_tool=True)
POST = Operation("post", "POST", "/api/channels/{channel}/messages", schema.PostMessage, schema.Message, is_tool=True)
_OF_MESSAGE = ("id", "message")
EXPLAIN = Operation("explain", "GET", "/api/messages/{id}/explain", schema.ExplainMessage, schema.Explanation, target=_OF_MESSAGE)
RETRY = Operation("retry", "POST", "/api/messages/{id}/retry", schema.RetryMessage, schema.Retried, target=_OF_MESSAGE)

INBOX = Operation("inbox", "GET", "/api/inbox", schema.ReadInbox, schema.Inbox, is_tool=True, target=("user", "inbox"))
ACK = Operation("ack", "POST", "/api/inbox/ack", schema.AckInbox, schema.Acked)

CLAIM = Operation("claim", "POST", "/api/turns", schema.ClaimTurn, schema.Claim, who="agent")
FINISH = Operation("finish", "POST", "/api/turns/{id}/finish", schema.FinishTurn, schema.Turn, who="agent", closes_turn=True)
FAIL = Operation("fail", "POST", "/api/turns/{id}/fail", schema.FailTurn, schema.Turn, who="agent", closes_turn=True)
RENEW = Operation("renew", "POST", "/api/turns/{id}/renew", schema.RenewTurn, schema.Lease, who="agent", is_audited=False)
STOP = Operation("stop", "POST", "/api/turns/{id}/stop", schema.StopTurn, schema.Turn, target=("id", "turn"))
TURN = Operation("turn", "GET", "/api/turns/{id}", schema.GetTurn, schema.Turn, target=("id", "turn"))
TURNS = Operation("turns", "GET", "/api/turns", schema.ListTurns, schema.Turns)

AGENTS = Operation("agents", "GET", "/api/agents", schema.ListAgents, schema.Agents, is_tool=True)
HEARTBEAT = Operation(
    "heartbeat", "POST", "/api/agents/{agent}/heartbeat", schema.Heartbeat, schema.Outlook, who="agent", is_sign_of_life=True
)
SET_STATUS = Operation("set_status", "POST", "/api/agents/{agent}/status", schema.SetStatus, schema.Agent)
SET_OWNER = Operation("set_owner", "PUT", "/api/agents/{agent}/owner", schema.SetOwner, schema.Agent, who="admin")
SET_LIMITS = Operation("set_limits", "PUT", "/api/agents/{agent}/limits", schema.SetLimits, schema.Agent)

EVENTS = Operation("events", "GET", "/api/events", schema.ListEvents, schema.Events, streams=True)

EGRESS_RULES = Operation("egress_rules", "GET", "/api/egress/rules", schema.ListEgress, schema.EgressRules)
SET_EGRESS = Operation("set_egress", "PUT", "/api/egress/rules", schema.SetEgress, schema.EgressRule)
DROP_EGRESS = Operation("drop_egress", "DELETE", "/api/egress/rules", schema.DropEgress, schema.EgressRule)
EGRESS_POLICY = Operation("egress_policy", "GET", "/api/egress/policy", schema.GetEgressPolicy, schema.EgressPolicy, who="gate")
RECORD_EGRESS = Operation(
    "record_egress", "POST", "/api/egress/log", schema.RecordEgress, schema.EgressRecorded, who="gate", is_audited=False
)
METER = Operation("meter", "POST", "/api/egress/meter", schema.Meter, schema.Metered, who="gate", is_audited=False)
EGRESS_LOG = Operation("egress_log", "GET", "/api/egress/log", schema.ReadEgressLog, schema.EgressLog)

SECRETS = Operation("secrets", "GET", "/api/secrets", schema.ListSecrets, schema.Secrets)
SET_SECRET = Operation("set_secret", "PUT", "/api/secrets", schema.SetSecret, schema.Secret)
DROP_SECRET = Operation("drop_secret", "DELETE", "/api/secrets", schema.DropSecret, schema.Secret)
EGRESS_SECRETS = Operation("egress_secrets", "GET", "/api/egress/secrets", schema.GetEgressSecrets, schema.EgressSecrets, who="gate")

ACL = Operation("acl", "GET", "/api/acl", schema.ListAcl, schema.Acl)
SET_ACL = Operation("set_acl", "PUT", "/api/acl", schema.SetAcl, schema.AclRow)
DROP_ACL = Operation("drop_acl", "DELETE", "/api/acl", schema.DropAcl, schema.AclRow)
EXPLAIN_ACL = Operation("explain_acl", "GET", "/api/acl/why", schema.ExplainAcl, schema.AclVerdict)
ROLES = Operation("roles", "GET", "/api/roles", schema.ListRoles, schema.Roles)
JOIN_ROLE = Operation("join_role", "PUT", "/api/roles/{role}/{username}", schema.JoinRole, schema.Roles, who="admin")
LEAVE_ROLE = Operation("leave_role", "DELETE", "/api/roles/{role}/{username}", schema.LeaveRole, schema.Roles, who="admin")

_OF_APPROVAL = ("id", "approval")
APPROVALS = Operation("approvals", "GET", "/api/approvals", schema.ListApprovals, schema.Approvals)
APPROVE = Operation("approve", "POST", "/api/approvals/{id}/approve", schema.Approve, schema.Approval, target=_OF_APPROVAL)
REFUSE = Operation("refuse", "POST", "/api/approvals/{id}/refuse", schema.Refuse, schema.Approval, target=_OF_APPROVAL)

OPERATIONS: dict[str, Operation[Any, Any]] = {row.name: row for row in list(globals().values()) if isinstance(row, Operation)}
