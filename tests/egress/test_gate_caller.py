"""Who calls is who the kernel says."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from egress import caller
from egress.systemd import answers
from tests.egress.house import House, code, status
from tests.egress.test_gate_proxy import get
from tests.server.machine import NOBODY, as_user

UNNAMED = 54321
# By hand, so that a user who can't read this checkout can run it.
ASK = """
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(bytes.fromhex(sys.argv[2]))
while part := line.recv(65536):
    sys.stdout.buffer.write(part)
"""


def ask_as(uid: int, house: House, message: bytes) -> bytes:
    """What a process of this uid is answered."""
    return as_user(uid, ASK, str(house.socket), message.hex())


@pytest.fixture
def real(open_house: Callable[..., House]) -> House:
    """A gate that asks the kernel, in a colony where scout is the Linux user nobody."""
    house = open_house(identify=caller.linux_user)
    house.rules = {"nobody": []}
    house.hear()
    return house


def test_an_agent_is_known_by_its_uid(real: House) -> None:
    upstream = real.upstream(user="nobody")
    assert status(ask_as(NOBODY, real, get(upstream.port))) == 200
    assert real.contact().linux_user == "nobody"
    denied = ask_as(NOBODY, real, b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
    assert (status(denied), code(denied)) == (403, "egress_denied")


@pytest.mark.parametrize("uid", [UNNAMED, 1])
def test_a_user_who_is_no_agent_is_a_stranger(real: House, uid: int) -> None:
    upstream = real.upstream(user="nobody")
    for spoofed in ("", "X-Linux-User: nobody\r\n", "Proxy-Authorization: Basic bm9ib2R5Og==\r\n"):
        answer = ask_as(uid, real, get(upstream.port, extra=spoofed))
        assert (status(answer), code(answer)) == (403, "egress_stranger")
    assert upstream.accepted == 0


def test_root_and_the_gates_own_user_are_strangers_even_if_a_rule_names_them(real: House) -> None:
    upstream = real.upstream(user="nobody")
    import pwd

    for name in ("root", pwd.getpwuid(os.geteuid()).pw_name):
        real.rules[name] = real.rules["nobody"]
    real.hear()
    answer = real.ask(get(upstream.port))
    assert (status(answer), code(answer)) == (403, "egress_stranger")
    assert upstream.accepted == 0


def test_a_uid_without_a_name_is_nobody() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert caller.linux_user(ours) is None  # our own


async def _asked(house: House) -> bool:
    return await answers(house.socket)


def test_the_gate_answers_itself_and_leaves_no_trace(real: House) -> None:
    import asyncio

    assert asyncio.run(_asked(real))
    assert real.colony.contacts == []
