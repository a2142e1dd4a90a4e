"""Of what comes in pieces the framing finds the same parts, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.framing import CHUNKS_PER_TURN, Answer, Broken, Chunks

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
EXTENSIONS = st.sampled_from([b"", b";a", b';a="b c" ', b"\t"])
TRAILERS = st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"])


def chunked(pieces: list[bytes], extension: bytes, trailers: bytes) -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0%b\r\n%b\r\n" % (extension, trailers)


def cut(message: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(message) + 1) for place in places), len(message)]
    return [message[begin:end] for begin, end in pairwise(at) if begin < end]


def read(message: bytes) -> tuple[bytes, bool]:
    """The data in it and whether it has ended, as h11 finds them."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    reader.receive_data(HEAD + message)
    data = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage) and event is not h11.NEED_DATA:
        data += bytes(event.data) if isinstance(event, h11.Data) else b""
    return data, isinstance(event, h11.EndOfMessage)


@given(PIECES, EXTENSIONS, TRAILERS, st.lists(st.integers(0, 400), max_size=6), st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n"]))
def test_a_body_in_chunks_is_the_same_however_it_comes(
    pieces: list[bytes], extension: bytes, trailers: bytes, places: list[int], after: bytes
) -> None:
    message = chunked(pieces, extension, trailers)
    chunks = Chunks()
    passed = b"".join(chunks.feed(each) for each in cut(message + after, places))
    assert read(passed) == read(message) == (b"".join(pieces), True)
    assert passed.endswith(b"0\r\n\r\n")
    assert chunks.feed(b"more") == b""


def test_very_many_chunks_are_read_in_several_turns() -> None:
    chunks = Chunks()
    found = [chunks.feed(b"1\r\na\r\n" * (2 * CHUNKS_PER_TURN + 5) + b"0\r\n")]
    while chunks.is_behind:
        found.append(chunks.feed())
    assert [read(each)[0].count(b"a") for each in found] == [CHUNKS_PER_TURN, CHUNKS_PER_TURN, 5]
    assert chunks.feed(b"\r\n") == b"0\r\n\r\n"


@given(PIECES, st.binary(max_size=60), st.lists(st.integers(0, 400), max_size=6))
def test_what_h11_would_not_read_does_not_come_to_it(pieces: list[bytes], nonsense: bytes, places: list[int]) -> None:
    message = chunked(pieces, b"", b"").removesuffix(b"0\r\n\r\n") + nonsense
    chunks = Chunks()
    try:
        passed = b"".join(chunks.feed(each) for each in cut(message, places))
    except Broken:
        return
    assert read(passed)[0].startswith(b"".join(pieces))


@pytest.mark.parametrize(
    "message",
    [b"x\r\n", b"\r\n", b"1\r\naXX", b"1\r\na\r\r\n", b"-1\r\n", b"1" * 16 + b"\r\n", b"1;\0\r\n", b"1;\n\r\n", b"1 x\r\n", b"0x1\r\n"],
)
def test_chunks_that_are_none_are_refused(message: bytes) -> None:
    with pytest.raises(Broken):
        Chunks().feed(message)


@given(st.lists(st.integers(0, 400), max_size=8))
def test_each_head_is_given_out_alone(places: list[int]) -> None:
    hint, body = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"
    answer, found = Answer(), []
    for each in cut(hint + HEAD + body, places):
        answer.more(each)
        while given_out := answer.next():
            found.append(given_out)
            if given_out == HEAD:
                answer.begin_body(is_chunked=True)
    assert found[:2] == [hint, HEAD]
    assert read(b"".join(found[2:])) == (b"hello", True)
