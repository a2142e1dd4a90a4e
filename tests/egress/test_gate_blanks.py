"""What could take long to read is read at once, or not at all: nobody waits for what another one has made up."""

from __future__ import annotations

from contextlib import ExitStack

from egress import head
from tests.egress.house import House, status
from tests.egress.test_gate_proxy import get

CROWD = 30  # a second each would be more than anybody's patience


def test_a_head_of_blanks_keeps_nobody_waiting(house: House) -> None:
    upstream = house.upstream(user="rook")
    with ExitStack() as stack:
        crowd = [stack.enter_context(house.knock()) for _ in range(CROWD)]
        for each in crowd:
            each.sendall(b"GET http://127.0.0.1/ HTTP/1.1\r\nX:" + b" " * (head.MAX_BYTES - 100) + b"\x01\r\n\r\n")
        house.user = "rook"
        assert status(house.ask(get(upstream.port))) == 200
        assert {status(each.recv(65536)) for each in crowd} == {400}
