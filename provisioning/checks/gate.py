"""The gate between agents and the network: whether it answers, with what is kept for it, and nobody can pass beside it."""

from __future__ import annotations

import socket as sockets
import stat

from provisioning import places
from provisioning.checks.finding import HOST, Finding, Findings
from provisioning.checks.scene import Scene
from provisioning.host.files import GATE
from provisioning.steps import Run, Step

SOCKET_MODE = 0o666  # everybody may knock: the kernel says who it is
PATIENCE_SECONDS = 5.0
_RESTART = f"systemctl restart {GATE}"
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
        yield Finding(HOST, f"the gate does not answer, so no agent reaches anything: {why}; journalctl -u {GATE} says more", _RESTART)


def socket(scene: Scene) -> Findings:
    """Whether agents can reach it."""
    try:
        facts = places.GATE_SOCKET.lstat()
    except FileNotFoundError:
        return  # that it does not answer is said already
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISSOCK(facts.st_mode):
        yield Finding(HOST, f"{places.GATE_SOCKET} is no socket", _RESTART)
    elif mode != SOCKET_MODE:
        # By the gate's user: it could have put a link to something of root's there.
        mended = Run(("chmod", f"{SOCKET_MODE:o}", str(places.GATE_SOCKET)), user=places.GATE_USER)
        what = f"not every agent can reach the gate: {places.GATE_SOCKET} has the mode {mode:04o}, not {SOCKET_MODE:04o}"
        remedy = f"chmod {SOCKET_MODE:o} {places.GATE_SOCKET}"
        yield Finding(HOST, what, remedy, fix=Step("socket", f"the mode of {places.GATE_SOCKET}", (mended,)))


def member(scene: Scene) -> Findings:
    """Whether the colony tells it the rules."""
    found = scene.colony.users.get(places.GATE_USER)
    if found is None or (found.kind, found.linux_user) != ("service", places.GATE_USER) or found.status == "dead":
        what = f"{places.GATE_USER} is no service of the colony: the gate knows no rules, and lets nobody through"
        yield Finding(HOST, what, "colony-server install")
