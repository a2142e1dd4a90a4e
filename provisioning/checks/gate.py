"""The gate between agents and the network: whether it answers, with what is kept for it, and nobody can pass beside it."""

from __future__ import annotations

import socket as sockets

from provisioning import places
from provisioning.checks import socket_file
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene
from provisioning.host.files import GATE

PATIENCE_SECONDS = 5.0
_QUESTION = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"


def answer(scene: Scene) -> Findings:
    """Whether it says something, be it that whoever asks is no agent."""
    try:
        with sockets.socket(sockets.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(places.GATE_SOCKET))
            connection.sendall(_QUESTION)
            said = connection.recv(16)
    except OSError as error:
        said, why = b"", error.strerror or str(error)
    else:
        why = "it hangs up"
    if not said.startswith(b"HTTP/1.1 "):
        what = f"the gate does not answer, so no agent reaches anything: {why}; journalctl -u {GATE} says more"
        yield Finding(HOST, what, f"systemctl restart {GATE}")


def socket(scene: Scene) -> Findings:
    """Whether agents can reach it."""
    return socket_file.judged(places.GATE_SOCKET, GATE, places.GATE_USER, "not every agent can reach the gate")


def member(scene: Scene) -> Findings:
    """Whether the colony tells it the rules."""
    found = scene.colony.users.get(places.GATE_USER)
    if found is None or (found.kind, found.linux_user) != ("service", places.GATE_USER) or found.status == "dead":
        what = f"{places.GATE_USER} is no service of the colony: the gate knows no rules, and lets nobody through"
        yield Finding(HOST, what, "colony-server install")
