"""Attempts on those who can be asked: the colony's server, a turn's tools, systemd, the journal, the network."""

from __future__ import annotations

from tests.host.apart.guards import Guard as G
from tests.host.apart.table import Attempt, By, Call, Refusal, Who

API = "/run/colony/api.sock"
PORT = "127.0.0.1:8700"
HEADER = "Colony-Turn: $turn"
TOKEN = "Authorization: Bearer $token"
NOBODY = "401 unauthenticated"
UNASKED = "Interactive authentication required"
_UNSEEN: dict[Who, Refusal] = {Who.TURN: ("ENOENT", G.SANDBOX)}
_UNKNOWN = _UNSEEN | {Who.STRANGER: (NOBODY, G.PEER)}


def _asked(says: str, words: Call, refused: str, works_for: By = By.ROOT, works_as: Call = ()) -> Attempt:
    """What the server does not do for scout, nor for anybody who is no user of the colony."""
    as_proof = ("ask", API, *works_as) if works_as else None
    return Attempt(says, ("ask", API, *words), _UNKNOWN | {Who.SERVICE: (refused, G.GATE)}, works_for, as_proof)


SERVER = [
    Attempt("be taken for the other", ("be_taken_for", API, "rook"), _UNKNOWN | {Who.SERVICE: ("taken for scout", G.PEER)}, By.ROOK),
    Attempt("be taken for the colony", ("be_taken_for", API, "colony"), _UNKNOWN | {Who.SERVICE: ("taken for scout", G.PEER)}),
    Attempt(
        "be taken for root in a namespace",
        ("inside", "be_taken_for", API, "colony"),
        _UNKNOWN | {Who.SERVICE: ("taken for scout", G.PEER)},
        works_as=("be_taken_for", API, "colony"),
    ),
    Attempt(
        "guess a token",
        ("be_taken_for", API, "ann", "Authorization: Bearer guessed"),
        _UNSEEN | {Who.SERVICE: (NOBODY, G.GATE), Who.STRANGER: (NOBODY, G.GATE)},
        works_as=("be_taken_for", API, "ann", TOKEN),
    ),
    _asked("read the other's inbox", ("GET", "/api/inbox?user=rook"), "404 not_found"),
    Attempt(
        "acknowledge what the other was sent",
        ("acknowledge", API, "$item"),
        _UNKNOWN | {Who.SERVICE: ("nothing acknowledged", G.GATE)},
        By.ROOK,
    ),
    _asked(
        "speak in the other's turn",
        ("POST", "/api/channels/general/messages", '{"body": "forged"}', HEADER),
        "409 stale_turn",
        By.ROOK,
    ),
    _asked("hold the other's turn", ("POST", "/api/turns/$turn_id/renew", '{"lease_seconds": 600}', HEADER), "409 stale_turn", By.ROOK),
    _asked(
        "answer in the other's turn",
        ("POST", "/api/turns/$turn_id/finish", '{"reply": "forged"}', HEADER),
        "409 stale_turn",
        By.ROOK,
        ("POST", "/api/turns/$turn_id/renew", '{"lease_seconds": 600}', HEADER),
    ),
    Attempt(
        "stop the other's turn",
        ("ask_past", "409 conflict", API, "POST", "/api/turns/$turn_id/stop", "{}"),
        _UNKNOWN | {Who.SERVICE: ("403 forbidden", G.GATE)},
        works_as=("ask_past", "409 conflict", API, "POST", "/api/turns/$ended_turn/stop", "{}"),
    ),
    _asked("report for the other", ("POST", "/api/agents/rook/heartbeat", "{}"), "403 forbidden", By.ROOK),
    _asked("pause the other", ("POST", "/api/agents/rook/status", '{"status": "healthy"}'), "403 forbidden"),
    _asked("raise its own limits", ("PUT", "/api/agents/scout/limits", '{"turns_per_hour": 1000}'), "403 forbidden"),
    _asked("make a user", ("POST", "/api/users", '{"username": "mallet", "kind": "ape"}'), "403 forbidden"),
    _asked("get the other's token", ("POST", "/api/users/rook/token"), "403 forbidden"),
    Attempt(
        "reach the server's port without a token",
        ("be_taken_for", PORT, "ann"),
        {
            Who.SERVICE: ("ECONNREFUSED", G.NETWORK),
            Who.TURN: ("ECONNREFUSED", G.NETWORK),
            Who.STRANGER: (NOBODY, G.GATE),
            Who.GATE: (NOBODY, G.GATE),
        },
        works_as=("be_taken_for", PORT, "ann", TOKEN),
    ),
    Attempt(
        "read the other's inbox by a tool",
        ("call_tool", "$tools", "inbox", '{"user": "rook"}'),
        {Who.TURN: ("user: not a field of inbox", G.TOOLS)},
        By.TURN,
        ("call_tool", "$tools", "inbox", "{}"),
    ),
    Attempt(
        "pause the other by a tool",
        ("call_tool", "$tools", "set_status", '{"agent": "rook", "status": "paused"}'),
        {Who.TURN: ("no tool set_status", G.TOOLS)},
        By.TURN,
        ("call_tool", "$tools", "whoami", "{}"),
    ),
]

SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = ("call_bus", SYSTEMD, "/org/freedesktop/systemd1", f"{SYSTEMD}.Manager")
_UNHEARD: dict[Who, Refusal] = {Who.SERVICE: ("Permission denied", G.HIDDEN), Who.TURN: ("No such file or directory", G.SANDBOX)}
_DENIED = _UNHEARD | {Who.STRANGER: (UNASKED, G.SYSTEMD), Who.SERVER: (UNASKED, G.SYSTEMD)}
ARGUMENTS = (*_MANAGER, "GetUnitProcesses", "s", "agent-rook-worker.service")
_TRANSIENT = (
    "ssa(sv)a(sa(sv))",
    "attempt-$nonce.service",
    "fail",
    "1",
    "ExecStart",
    "a(sasb)",
    "1",
    "/bin/true",
    "1",
    "true",
    "false",
    "0",
)

MACHINE = [
    Attempt("have systemd tell the other's arguments", ARGUMENTS, _UNHEARD),
    Attempt(
        "have systemd stop the other",
        (*_MANAGER, "StopUnit", "ss", "agent-rook-worker.service", "replace"),
        _DENIED,
        works_as=(*_MANAGER, "StopUnit", "ss", "bystander.service", "replace"),
    ),
    Attempt("have systemd start a service", (*_MANAGER, "StartUnit", "ss", "bystander.service", "replace"), _DENIED),
    Attempt("have systemd run a program", (*_MANAGER, "StartTransientUnit", *_TRANSIENT), _DENIED),
    Attempt(
        "have systemd change its bounds",
        (*_MANAGER, "SetUnitProperties", "sba(sv)", "agent-scout-worker.service", "true", "1", "CPUWeight", "t", "50"),
        _DENIED,
    ),
    Attempt("have systemd signal the other", (*_MANAGER, "KillUnit", "ssi", "agent-rook-worker.service", "main", "18"), _DENIED),
    Attempt(
        "have logind keep services for it",
        ("linger", "scout"),
        _UNHEARD | {Who.TURN: ("Host is down", G.SANDBOX)},
        works_as=("linger", "human"),
    ),
    Attempt(
        "read the other's journal",
        ("read_journal", "--unit=agent-rook-worker"),
        {
            Who.SERVICE: ("No journal files were opened due to insufficient permissions", G.MODE),
            Who.TURN: ("it is empty", G.SANDBOX),
            Who.STRANGER: ("No journal files were opened due to insufficient permissions", G.MODE),
            Who.SERVER: ("No journal files were opened due to insufficient permissions", G.MODE),
        },
    ),
    Attempt(
        "reach a cloud's metadata",
        ("connect_to", "169.254.169.254", "80"),
        {Who.SERVICE: ("ENETUNREACH", G.NETWORK), Who.TURN: ("ENETUNREACH", G.NETWORK), Who.GATE: ("no answer", G.ADDRESSES)},
        By.STRANGER,
    ),
]

ROWS = {"The colony's server and its tools": SERVER, "systemd, the journal, the network": MACHINE}
