"""What could take long to read is read at once, or not at all: nobody waits for what another one has made up."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from egress import framing, head
from tests.egress.house import House, answering, code, status, until
from tests.egress.test_gate_proxy import get

CROWD = 30  # a second each would be more than anybody's patience
BLANKS = b" " * 60_000
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def crowd_of(house: House, message: bytes) -> list[int]:
    """How those are answered who say this all at once; another agent is answered meanwhile."""
    upstream = house.upstream(user="rook")
    with ExitStack() as stack:
        crowd = [stack.enter_context(house.knock()) for _ in range(CROWD)]
        for each in crowd:
            each.sendall(message)
        house.user = "rook"
        assert status(house.ask(get(upstream.port))) == 200
        return [status(each.recv(65536)) for each in crowd]


def test_a_head_of_blanks_keeps_nobody_waiting(house: House) -> None:
    blanks = b" " * (head.MAX_BYTES - 100)
    assert set(crowd_of(house, b"GET http://127.0.0.1/ HTTP/1.1\r\nX:" + blanks + b"\x01\r\n\r\n")) == {400}


@pytest.mark.parametrize(
    "body",
    [
        b"1;" + BLANKS + b"\n\r\n",
        b"1;" + BLANKS[:500] + b"\n\r\n",
        b"0\r\nX:" + BLANKS + b"\0\r\n\r\n",
        b"0" * 2000,
        b"0\r\n" + b"x" * 2000,
    ],
)
def test_a_body_whose_framing_is_made_up_keeps_nobody_waiting(house: House, body: bytes) -> None:
    upstream = house.upstream()
    assert set(crowd_of(house, get(upstream.port, extra=CHUNKED.decode(), method="POST") + body)) <= {400, 200}
    assert code(house.ask(get(upstream.port, extra=CHUNKED.decode(), method="POST") + b"1;\n\r\n")) == "invalid"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX:" + BLANKS + b"\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX:" + b"\r\n \r\n " * 8000 + b"\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * framing.MAX_LINES + b"\r\n",
        b"HTTP/1.1 200 OK\r\na:" + b"x" * framing.MAX_HEAD + b"\r\n\r\n",
        b"HTTP/1.1 100 \r\n\r\n" * framing.MAX_HEADS + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_whose_head_is_made_up_keeps_nobody_waiting(house: House, answer: bytes) -> None:
    upstream = house.upstream(answering(answer))
    assert set(crowd_of(house, get(upstream.port))) == {502}
    failed = until(lambda: [contact for contact in house.colony.ended if contact.verdict == "failed"], "what became of them")
    assert {contact.reason for contact in failed} == {"its answer is no HTTP"}


@pytest.mark.parametrize("framed", [b"1;" + BLANKS + b"\n\r\n", b"0\r\nX:" + BLANKS + b"\0\r\n\r\n"])
def test_an_answer_whose_framing_is_made_up_keeps_nobody_waiting(house: House, framed: bytes) -> None:
    upstream = house.upstream(answering(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n" + framed))
    crowd_of(house, get(upstream.port))


def test_an_answer_may_say_what_is_usual_before_it_comes(house: House) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * (framing.MAX_HEADS - 1)
    usual = b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: a=b\r\n" * 100 + b"X:  \t a \r\nContent-Length: 2\r\n\r\nok"
    upstream = house.upstream(answering(hints + usual))
    answer = house.ask(get(upstream.port))
    assert (status(answer), answer.count(b"a=b"), answer[-2:]) == (200, 100, b"ok")
