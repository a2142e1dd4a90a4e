"""Whom TLS in a tunnel asks for: the host that the tunnel was asked for, or nobody."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import hello, resolver
from egress.address import Address
from egress.hello import Hello, parsed
from egress.refusals import Malformed
from egress.settings import Bounds
from tests.egress.house import House, Upstream, echo, everything, until
from tests.egress.test_gate_model import certificate

HOST, OTHER = "api.example", "evil.example"
ECH = 0xFE0D
Opened = Callable[..., House]


def said(name: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What a real client says first."""
    context = ssl.create_default_context()
    context.maximum_version = newest
    context.check_hostname = name is not None
    goes = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), goes, server_hostname=name).do_handshake()
    return goes.read()


def made(*extensions: tuple[int, bytes], kind: int = 1, tail: bytes = b"") -> bytes:
    """A ClientHello with these extensions, in one record."""
    block = b"".join(struct.pack(">HH", number, len(value)) + value for number, value in extensions)
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + struct.pack(">H", len(block)) + block + tail
    return record(bytes([kind]) + len(body).to_bytes(3) + body)


def record(fragment: bytes, kind: int = 22) -> bytes:
    return struct.pack(">BHH", kind, 0x0301, len(fragment)) + fragment


def cut(message: bytes, size: int) -> bytes:
    """The same, in records of so many bytes each."""
    return b"".join(record(message[at : at + size]) for at in range(5, len(message), size))


def named(*names: str, kind: int = 0) -> tuple[int, bytes]:
    entries = b"".join(struct.pack(">BH", kind, len(name)) + name.encode() for name in names)
    return 0, struct.pack(">H", len(entries)) + entries


@pytest.fixture
def house(open_house: Opened) -> House:
    found = open_house(Bounds(head_seconds=1))
    found.names[HOST] = [["127.0.0.1"]]
    return found


def reach(house: House, upstream: Upstream) -> socket.socket:
    house.allow(HOST, upstream.port)
    house.allow("127.0.0.1", upstream.port)
    return house.tunnel(HOST, upstream.port)


# What is read


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", [HOST, OTHER, "a" * 63 + ".example", None])
def test_the_name_of_a_real_client_is_found(name: str | None, newest: ssl.TLSVersion) -> None:
    assert parsed(said(name, newest=newest)) == Hello(name and name.encode())  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [16, 100, 300])
def test_it_is_found_in_however_many_records(size: int) -> None:
    message = cut(said(HOST), size)
    assert [parsed(message[:end]) for end in range(1, len(message))] == [None] * (len(message) - 1)
    assert parsed(message) == Hello(HOST.encode())


def test_what_follows_it_is_not_read() -> None:
    assert parsed(said(HOST) + b"\x14\x03\x03\x00\x01\x01 and early data") == Hello(HOST.encode())


def test_a_hidden_name_shows() -> None:
    assert parsed(made(named(HOST), (ECH, b"whatever"))) == Hello(HOST.encode(), is_hiding=True)


@pytest.mark.parametrize("message", [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x02", b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x80"])
def test_what_is_no_tls_asks_for_nothing(message: bytes) -> None:
    assert parsed(message) == Hello()


UNREADABLE = {
    "an alert before it": record(b"\x01\x00", kind=21) + made(named(HOST)),
    "another record within it": cut(made(named(HOST)), 20)[:25] + record(b"\x01", kind=20),
    "an empty record": record(b"") + made(named(HOST)),
    "another handshake": made(named(HOST), kind=2),
    "two extensions for names": made(named(HOST), named(OTHER)),
    "two names": made(named(HOST, OTHER)),
    "no name where there should be one": made(named()),
    "a name of another kind": made(named(HOST, kind=1)),
    "something behind the extensions": made(named(HOST), tail=b"x"),
    "something behind the names": made((0, named(HOST)[1] + b"x")),
    "a name that is shorter than it says": made((0, named(HOST)[1][:-1])),
    "too many records": cut(made(named(HOST), (21, bytes(400))), 4),
    "too many bytes": record(b"\1\xff\xff\xff" + bytes(hello.MAX_BYTES)),
    "another message in its record": record(made(named(HOST))[5:] + made(named(OTHER))[5:]),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_could_be_read_in_two_ways_is_refused(what: str) -> None:
    with pytest.raises(Malformed, match="TLS in the tunnel"):
        parsed(UNREADABLE[what])


@given(st.binary(min_size=1, max_size=300), st.integers(0, 300))
def test_nothing_breaks_it(noise: bytes, at: int) -> None:
    message = made(named(HOST), (ECH, b"whatever"), (21, bytes(100)))
    for damaged in (noise, b"\x16\x03\x01" + noise, record(b"\1" + noise), message[:at] + noise + message[at + len(noise) :]):
        with suppress(Malformed):
            assert isinstance(parsed(damaged), Hello | None)


# What is done about it


@pytest.mark.parametrize("name", [HOST, None])
def test_who_asks_for_the_tunnels_host_or_for_none_is_answered(house: House, tmp_path: Path, name: str | None) -> None:
    made, shown = certificate(tmp_path, HOST)
    upstream = Upstream(echo, shown)
    trusting = ssl.create_default_context(cafile=str(made))
    trusting.check_hostname = name is not None
    with trusting.wrap_socket(reach(house, upstream), server_hostname=name) as line:
        line.sendall(b"hello")
        assert line.recv(100) == b"hello"
    upstream.close()
    assert house.contact().verdict == "allowed"


@pytest.mark.parametrize("name", [OTHER, f"{HOST}.", f"x{HOST}", f"{HOST}.{OTHER}", "127.0.0.1.example"])
def test_who_asks_for_another_is_refused_before_a_byte_leaves(house: House, name: str) -> None:
    upstream = house.upstream(echo)
    with reach(house, upstream) as line:
        line.sendall(made(named(name)))
        assert everything(line) == hello.UNRECOGNIZED_NAME
    contact = house.contact()
    assert (contact.verdict, contact.sent_bytes, contact.reason) == ("denied", 0, f"TLS in the tunnel asks for {name!r}")


def test_a_real_client_is_told_why(house: House) -> None:
    line = reach(house, house.upstream(echo))
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        ssl.create_default_context().wrap_socket(line, server_hostname=OTHER)
    line.close()


def test_the_case_of_a_name_makes_no_difference(house: House) -> None:
    with reach(house, house.upstream(echo)) as line:
        line.sendall(made(named("API.Example")))
        assert line.recv(65536) == made(named("API.Example"))


def test_who_hides_the_name_is_refused(house: House) -> None:
    with reach(house, house.upstream(echo)) as line:
        line.sendall(made(named(HOST), (ECH, b"whatever")))
        assert everything(line) == hello.UNRECOGNIZED_NAME
    assert "hides which host it asks for" in house.contact().reason


def test_a_name_is_none_of_an_address(house: House) -> None:
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as line:
        line.sendall(made(named(HOST)))
        assert everything(line) == hello.UNRECOGNIZED_NAME


def test_it_may_come_byte_by_byte(house: House) -> None:
    message = cut(made(named(HOST)), 10)
    with reach(house, house.upstream(echo)) as line:
        for each in message:
            line.sendall(bytes([each]))
        found = b""
        while len(found) < len(message):
            found += line.recv(65536)
        assert found == message


def test_it_may_come_with_the_connect(house: House) -> None:
    upstream = house.upstream(echo)
    house.allow(HOST, upstream.port)
    with house.knock() as line:
        line.sendall(f"CONNECT {HOST}:{upstream.port} HTTP/1.1\r\n\r\n".encode() + made(named(OTHER)))
        assert everything(line).endswith(hello.UNRECOGNIZED_NAME)
    assert house.contact().verdict == "denied"


def test_it_has_an_end(house: House) -> None:
    with reach(house, house.upstream(echo)) as line:
        line.sendall(made(named(HOST))[:30])
        assert everything(line) == b""
    assert "within 1 s" in house.contact().reason


def test_who_breaks_off_in_it_is_not_passed_on(house: House) -> None:
    with reach(house, house.upstream(echo)) as line:
        line.sendall(made(named(HOST))[:30])
        line.shutdown(socket.SHUT_WR)
        assert everything(line) == b""
    contact = house.contact()
    assert ("broke off" in contact.reason, contact.sent_bytes) == (True, 0)


def test_the_other_end_may_speak_first(house: House) -> None:
    heard = threading.Event()

    def greet(upstream: Upstream, connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-host\r\n")
        assert connection.recv(100) == b"SSH-2.0-agent\r\n"
        heard.set()

    with reach(house, house.upstream(greet)) as line:
        assert line.recv(100) == b"SSH-2.0-host\r\n"
        line.sendall(b"SSH-2.0-agent\r\n")
        until(heard.is_set)


class Narrow(socket.socket):
    """Takes 1000 bytes at a time, and none at each second time."""

    times = 0

    def send(self, message: Any, flags: int = 0) -> int:
        self.times += 1
        if self.times % 2:
            raise BlockingIOError
        return super().send(message[:1000], flags)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to each host is so."""
    connected = resolver._connected

    async def narrowly(to: Address, port: int, seconds: float) -> socket.socket:
        narrow = Narrow(fileno=(await connected(to, port, seconds)).detach())
        narrow.setblocking(False)
        return narrow

    monkeypatch.setattr(resolver, "_connected", narrowly)


@pytest.mark.usefixtures("narrow")
def test_what_does_not_go_out_at_once_goes_out_before_the_rest(house: House) -> None:
    message, rest = made(named(HOST), (21, bytes(12_000))), bytes(range(256)) * 4096
    is_hearing, found = threading.Event(), bytearray()

    def hear(upstream: Upstream, connection: socket.socket) -> None:
        is_hearing.wait()
        while arrived := connection.recv(65536):
            found.extend(arrived)

    with reach(house, house.upstream(hear)) as line:
        line.sendall(message)
        speaking = threading.Thread(target=line.sendall, args=[rest])
        speaking.start()
        is_hearing.set()
        speaking.join()
        until(lambda: len(found) == len(message + rest))
    assert found == message + rest


def test_a_tunnel_in_which_the_agent_never_speaks_is_cut_with_its_rule(house: House) -> None:
    def greet(upstream: Upstream, connection: socket.socket) -> None:
        connection.sendall(b"hello")
        connection.recv(1)

    with reach(house, house.upstream(greet)) as line:
        assert line.recv(5) == b"hello"
        house.rules["scout"].clear()
        house.hear()
        house.judge_again()
        assert everything(line) == b""
    assert "no longer allowed" in house.contact().reason
