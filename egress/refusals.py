"""How the gate says no: the colony's errors, each with what is noted of the connection."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import ClassVar, Literal

from colony import errors, schema

Verdict = Literal["allowed", "denied", "failed"]


class Refusal(errors.ColonyError):
    """The connection was refused."""

    verdict: ClassVar[Verdict] = "denied"
    is_betrayal: ClassVar[bool] = False  # the agent's honeytoken was to go out
    is_noted = False  # the connection that was refused is in the ledger


class Malformed(Refusal):
    """This is not a request that the gate can take for one thing only."""

    code, status, exit_code = "invalid", 400, 2


class Denied(Refusal):
    """No rule allows this."""

    code, status, exit_code = "egress_denied", 403, 3


class Betrayed(Denied):
    """This holds a token that no agent has any use for: whoever asked for it is to be asked why."""

    is_betrayal = True


class OtherHost(Denied):
    """What is in the tunnel asks for another host than the tunnel was asked for."""

    code = "egress_other_host"


class Unasked(Denied):
    """The model may not be asked this."""

    status = 400  # a 403 of the API would mean that it takes no such key


class Idle(Denied):
    """No turn of yours runs, so nothing may be asked of the model."""


class Stranger(Denied):
    """Only the agents of this colony leave through this gate."""

    code = "egress_stranger"


class Blind(Denied):
    """The gate does not know the rules, so nothing may leave."""

    code = "egress_blind"


class Resting(Blind):
    """The gate does not know the rules at the moment; it is worth another try."""

    status = 503


class TooLarge(Refusal):
    """The request is larger than the gate accepts."""

    code, status, exit_code = "too_large", 413, 2


class TooMany(Refusal):
    """You hold more connections than one agent may."""

    code, status, exit_code = "limit_reached", 429, 9


class Spent(Refusal):
    """This turn has cost as much as it may."""

    code, status, exit_code = "budget_spent", 402, 9


class Slow(Refusal):
    """The request did not arrive in time."""

    code, status, exit_code = "egress_slow", 408, 8


class Unreachable(Refusal):
    """Nothing answers there."""

    code, status, exit_code, verdict = "egress_unreachable", 502, 8, "failed"


class Silent(Unreachable):
    """What was asked did not answer in time."""

    code, status = "egress_timeout", 504


class CutOff(Refusal):
    """The connection became more than one may be."""

    code, status, exit_code, verdict = "egress_cut_off", 502, 8, "failed"


class Gone(Exception):
    """The client hung up; nobody wants an answer any more."""


_API_TYPES = {
    400: "invalid_request_error",
    402: "billing_error",
    403: "permission_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def api_error(refusal: errors.ColonyError) -> bytes:
    """The body of the answer as the model's API would have it, which is what its clients understand. The code stands in the message."""
    kind = _API_TYPES.get(refusal.status, "api_error")
    error = {"type": kind, "message": f"{refusal.detail} ({refusal.code})"}
    return json.dumps({"type": "error", "error": error}).encode()


def phrase(refusal: errors.ColonyError) -> str:
    return HTTPStatus(refusal.status).phrase


def problem(refusal: errors.ColonyError) -> bytes:
    """The body of the answer, in the colony's one shape of errors."""
    return schema.Problem(title=phrase(refusal), status=refusal.status, detail=refusal.detail, code=refusal.code).model_dump_json().encode()
