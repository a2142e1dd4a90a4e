"""What two programs could read in two ways is refused, and reaches nothing."""

from __future__ import annotations

import socket

import pytest

from egress import head
from tests.egress.house import OK, House, answering, code, everything, status

GET = "GET {url} HTTP/1.1\r\nHost: {host}\r\n"
POST = "POST {url} HTTP/1.1\r\nHost: {host}\r\n"
SMUGGLED = {
    "both framings": POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, the other way round": POST + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "the same length twice": POST + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + "Content-Length: 4, 4\r\n\r\nabcd",
    "a signed length": POST + "Content-Length: +4\r\n\r\nabcd",
    "a negative length": POST + "Content-Length: -1\r\n\r\n",
    "a hexadecimal length": POST + "Content-Length: 0x4\r\n\r\nabcd",
    "an empty length": POST + "Content-Length:\r\n\r\n",
    "an endless length": POST + "Content-Length: 99999999999999999999\r\n\r\n",
    "two codings": POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, misspelt": POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": POST + "Transfer-Encoding: identity\r\n\r\n",
    "chunked in HTTP/1.0": "POST {url} HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab in the coding": POST + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + "Content-Length : 4\r\n\r\nabcd",
    "a tab before the colon": POST + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": GET + "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a folded first header": "GET {url} HTTP/1.1\r\n Host: {host}\r\n\r\n",
    "bare line feeds": "GET {url} HTTP/1.1\nHost: {host}\n\n\r\n\r\n",
    "one bare line feed": "GET {url} HTTP/1.1\r\nHost: {host}\nX-A: b\r\n\r\n",
    "a bare carriage return": GET + "X-A: b\rX-B: c\r\n\r\n",
    "a NUL": GET + "X-A: b\x00c\r\n\r\n",
    "a header without a colon": GET + "X-A\r\n\r\n",
    "a header without a name": GET + ": b\r\n\r\n",
    "a header with a space in its name": GET + "X A: b\r\n\r\n",
    "an empty line first": "\r\nGET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "two spaces": "GET  {url} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a tab for a space": "GET\t{url} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a space in the target": "GET {url} x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "no version": "GET {url}\r\nHost: {host}\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": "GET {url} HTTP/1.2\r\nHost: {host}\r\n\r\n",
    "a small http": "GET {url} http/1.1\r\nHost: {host}\r\n\r\n",
    "another Host": "GET {url} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "another port in Host": "GET {url} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
    "two Hosts": GET + "Host: evil.example\r\n\r\n",
    "the same Host twice": GET + "Host: {host}\r\n\r\n",
    "no Host": "GET {url} HTTP/1.1\r\n\r\n",
    "an empty Host": "GET {url} HTTP/1.1\r\nHost:\r\n\r\n",
    "a user in Host": "GET {url} HTTP/1.1\r\nHost: user@{host}\r\n\r\n",
    "Connection takes Host away": GET + "Connection: host\r\n\r\n",
    "Connection takes the length away": POST + "Content-Length: 4\r\nConnection: Content-Length\r\n\r\nabcd",
    "a user in the target": "GET http://user:pw@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a fragment in the target": "GET {url}#@evil.example HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "bytes beyond ASCII in the target": "GET {url}é HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "too many headers": GET + "" + "X: y\r\n" * 101 + "\r\n",
    "CONNECT with a body": "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nabcd",
    "CONNECT in chunks": "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CONNECT to another Host": "CONNECT {host} HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    "CONNECT to an address": "CONNECT {url} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "CONNECT without a port": "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "CONNECT to a user": "CONNECT user@{host} HTTP/1.1\r\n\r\n",
    "an asterisk": "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "an address without a scheme": "GET {host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_an_ambiguous_request_is_refused_and_nothing_is_reached(house: House, what: str) -> None:
    upstream = house.upstream()
    host = f"127.0.0.1:{upstream.port}"
    message = SMUGGLED[what].replace("{url}", f"http://{host}/").replace("{host}", host)
    answer = house.ask(message.encode("utf-8"))
    assert (status(answer), code(answer)) in ((400, "invalid"), (413, "too_large"))
    assert upstream.accepted == 0
    assert answer.count(b"\r\n\r\n") == 1


CHUNKS = {
    "a size that is none": b"zz\r\nab\r\n0\r\n\r\n",
    "a negative size": b"-1\r\n\r\n0\r\n\r\n",
    "a signed size": b"+2\r\nab\r\n0\r\n\r\n",
    "a size in 0x": b"0x2\r\nab\r\n0\r\n\r\n",
    "an endless size": b"fffffffffffffffffffff\r\nab",
    "a chunk that is longer than it says": b"2\r\nabcd\r\n0\r\n\r\n",
    "a chunk without its end": b"2\r\nabXX0\r\n\r\n",
    "a size without an end": b"2" * 30_000,
    "an endless trailer": b"0\r\nX: " + b"y" * 100_000,
}


@pytest.mark.parametrize("what", CHUNKS)
def test_malformed_chunks_end_the_request(house: House, what: str) -> None:
    upstream = house.upstream()
    host = f"127.0.0.1:{upstream.port}"
    answer = house.ask(f"POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + CHUNKS[what])
    assert status(answer) == 400
    assert upstream.heard == []  # it never heard a whole request
    assert house.contact().verdict == "denied"


def test_bare_line_feeds_end_no_chunk(house: House) -> None:
    upstream = house.upstream()
    host = f"127.0.0.1:{upstream.port}"
    with house.knock() as connection:
        connection.sendall(f"POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\n0\n\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b""
    assert upstream.heard == []


def test_what_follows_a_request_is_no_second_one(house: House) -> None:
    upstream = house.upstream()
    host = f"127.0.0.1:{upstream.port}"
    one = f"GET http://{host}/one HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    two = f"GET http://{host}/two HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    answer = house.ask(one + two)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert [heard.split(b" ")[1] for heard in upstream.heard] == [b"/one"]


def test_a_request_that_the_body_holds_stays_a_body(house: House) -> None:
    upstream = house.upstream()
    host = f"127.0.0.1:{upstream.port}"
    inner = b"GET /inner HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    house.ask(f"POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(inner)}\r\n\r\n".encode() + inner)
    assert upstream.heard[0].endswith(b"\r\n\r\n" + inner)
    assert upstream.accepted == 1


ANSWERS = {
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": b"",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "Connection takes the length away": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: content-length\r\n\r\nok",
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_ambiguous_answer_is_not_passed_on(house: House, what: str) -> None:
    upstream = house.upstream(answering(ANSWERS[what]))
    host = f"127.0.0.1:{upstream.port}"
    answer = house.ask(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert (status(answer), code(answer)) == (502, "egress_unreachable")
    assert house.contact().verdict == "failed"


def test_an_answer_that_breaks_off_is_seen_to_do_so(house: House) -> None:
    upstream = house.upstream(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"))
    host = f"127.0.0.1:{upstream.port}"
    answer = house.ask(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")
    assert house.contact().verdict == "failed"


def test_a_head_is_read_alike_however_it_arrives(house: House) -> None:
    upstream = house.upstream()
    host = f"127.0.0.1:{upstream.port}"
    message = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with house.knock() as connection:
        for byte in message:
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_head_may_be_as_large_as_it_may_be_and_not_larger(house: House) -> None:
    upstream = house.upstream(answering(OK))
    host = f"127.0.0.1:{upstream.port}"
    start = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nX: ".encode()
    fits = start + b"y" * (head.MAX_BYTES - len(start) - 4) + b"\r\n\r\n"
    assert status(house.ask(fits)) == 200
    assert status(house.ask(start + b"y" * (head.MAX_BYTES - len(start) - 3) + b"\r\n\r\n")) == 413
    assert status(house.ask(start + b"y" * 200_000)) == 413
    assert upstream.accepted == 1
