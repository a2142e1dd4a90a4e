"""Secrets go where they belong: put in by the gate, on the way to their hosts alone, and never back."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest

from colony import schema
from colony_agent.sandbox.gate import TRUSTING, Gate
from egress.settings import Bounds
from egress.vault import SYSTEM_BUNDLE, Vault
from tests.egress.house import OK, Clock, House, Upstream, answering, code, echo, everything, hear, status, until
from tests.egress.test_gate_model import certificate

Opened = Callable[..., House]
VALUE, MARK = "ghp_very-secret-token", "colony-secret-TOKEN-0123456789abcdef"
HOST = "api.example"


def secret(*hosts: str, name: str = "TOKEN", value: str = VALUE, mark: str = MARK, **more: Any) -> schema.EgressSecret:
    return schema.EgressSecret(name=name, value=value, placeholder=mark, hosts=list(hosts), **more)


class Site:
    """A host of the world that proves to be `api.example`, and a house whose scout may reach it and has secrets for it."""

    def __init__(self, open_house: Opened, folder: Path, handle: Any = None, bounds: Bounds | None = None) -> None:
        made, shown = certificate(folder, HOST)
        self.upstream = Upstream(handle or answering(OK), shown)
        self.house = open_house(bounds, tls=ssl.create_default_context(cafile=str(made)))
        self.port = self.upstream.port
        self.house.names[HOST] = [["127.0.0.1"]]
        self.house.allow(HOST, self.port)
        self.house.allow("127.0.0.1", self.port)
        self._version = 0

    def give(self, *secrets: schema.EgressSecret, user: str = "scout") -> None:
        self._version += 1
        self.house.vault.hear(schema.EgressSecrets(version=str(self._version), agents={user: list(secrets)} if secrets else {}))

    def dial(self, name: str | None = HOST, host: str = HOST, alpn: list[str] | None = None) -> ssl.SSLSocket:
        """TLS through the gate, as a sandbox trusts it."""
        trusting = ssl.create_default_context(cafile=str(self.house.folder / "ca.pem"))
        trusting.check_hostname = name is not None
        if alpn:
            trusting.set_alpn_protocols(alpn)
        return trusting.wrap_socket(self.house.tunnel(host, self.port), server_hostname=name)

    def ask(self, message: str) -> bytes:
        with self.dial() as line:
            line.sendall(message.encode())
            return everything(line)

    def get(self, path: str = "/", *headers: str) -> bytes:
        return self.ask("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {HOST}:{self.port}", *headers, "", ""]))

    @property
    def heard(self) -> bytes:
        return self.upstream.heard[-1]


@pytest.fixture
def open_site(open_house: Opened, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def opened(*args: Any, **more: Any) -> Site:
        made.append(Site(open_house, tmp_path, *args, **more))
        return made[-1]

    yield opened
    for site in made:
        site.upstream.close()


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    site = open_site()
    site.give(secret(f"{HOST}:{site.port}"))
    return site


# Where it goes


def test_the_placeholder_becomes_the_secret_on_its_way(site: Site) -> None:
    assert status(site.get("/repos", f"Authorization: Bearer {MARK}")) == 200
    assert f"\r\nauthorization: Bearer {VALUE}\r\n".encode() in site.heard
    assert MARK.encode() not in site.heard
    contact = site.house.contact()
    assert (contact.verdict, contact.host, contact.reason, contact.secrets) == ("allowed", HOST, "with TOKEN", ["TOKEN"])
    assert VALUE not in contact.model_dump_json()


def test_neither_a_path_nor_a_header_of_the_agents_choice_publishes_a_secret(site: Site) -> None:
    """A path may be a file's name in a public repository, and a header what a host tells others of its visitors."""
    site.get(f"/repos/ann/public/contents/{MARK}.txt?q={MARK}", f"User-Agent: {MARK}", f"Authorization: Bearer {MARK}", f"Referer: {MARK}")
    assert site.heard.count(VALUE.encode()) == 1
    assert site.heard.count(MARK.encode()) == 4


@pytest.mark.parametrize("header", [None, "X-Api-Key: {}"])
def test_a_secret_that_is_for_paths_is_put_into_them(site: Site, header: str | None) -> None:
    site.give(secret(f"{HOST}:{site.port}", in_path=True, header=header))
    site.get(f"/bot{MARK}/getMe?token={MARK}", f"User-Agent: {MARK}")
    assert site.heard.startswith(f"GET /bot{VALUE}/getMe?token={VALUE} HTTP/1.1\r\n".encode())
    assert f"user-agent: {MARK}\r\n".encode() in site.heard
    assert site.house.contact().reason == "with TOKEN"


def test_within_a_password_it_is_put_in_as_well(site: Site) -> None:
    said = base64.b64encode(f"scout:{MARK}".encode()).decode()
    site.get("/", f"Authorization: Basic {said}")
    assert base64.b64encode(f"scout:{VALUE}".encode()) in site.heard


def test_a_header_is_set_whatever_the_agent_sends(site: Site) -> None:
    site.give(secret(f"{HOST}:{site.port}", header="X-Api-Key: key {}"))
    site.get("/", "x-api-key: mine", "X-Api-Key: too")
    assert [line for line in site.heard.split(b"\r\n") if line.lower().startswith(b"x-api-key")] == [f"x-api-key: key {VALUE}".encode()]


def test_a_body_goes_as_it_is(site: Site) -> None:
    body = f"token={MARK}"
    answer = site.ask(f"POST / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    assert status(answer) == 200
    assert site.heard.endswith(body.encode())
    contact = site.house.contact()
    assert ("without a secret" in contact.reason, contact.secrets) == (True, [])


def test_elsewhere_a_placeholder_is_worth_nothing(site: Site) -> None:
    other = site.house.upstream(answering(OK))
    request = f"GET http://127.0.0.1:{other.port}/{MARK} HTTP/1.1\r\nHost: 127.0.0.1:{other.port}\r\nAuthorization: {MARK}\r\n\r\n"
    assert status(site.house.ask(request.encode())) == 200
    assert other.heard[0].count(MARK.encode()) == 2
    assert VALUE.encode() not in other.heard[0]


def test_hosts_without_a_secret_are_reached_blindly(site: Site) -> None:
    upstream = site.house.upstream(echo)
    with site.house.tunnel("127.0.0.1", upstream.port) as line:
        line.sendall(b"no TLS at all")
        assert line.recv(100) == b"no TLS at all"


def test_another_agents_secret_is_not_this_ones(site: Site) -> None:
    site.give(secret(f"{HOST}:{site.port}"), user="rook")
    with site.house.tunnel(HOST, site.port) as line:  # a blind one: the host's own certificate shows
        trusting = ssl.create_default_context(cafile=str(site.house.folder / "ca.pem"))
        with pytest.raises(ssl.SSLCertVerificationError):
            trusting.wrap_socket(line, server_hostname=HOST)


def test_programs_are_told_to_trust_the_gate_once_it_puts_secrets_in(site: Site) -> None:
    inside = Gate(site.house.folder / "egress.sock").environment()
    told = {name: (site.house.folder / PurePath(file).name).read_bytes() for name, file in inside.items() if name in TRUSTING}
    gate, system = told.pop("NODE_EXTRA_CA_CERTS"), SYSTEM_BUNDLE.read_bytes()
    assert gate.count(b"BEGIN CERTIFICATE") == 1
    assert told == dict.fromkeys(TRUSTING.keys() - {"NODE_EXTRA_CA_CERTS"}, system + gate)
    Vault(60, site.house.folder)  # another gate, which has heard of no secret yet
    assert "NODE_EXTRA_CA_CERTS" not in Gate(site.house.folder / "egress.sock").environment()


@pytest.mark.parametrize(
    ("pattern", "is_bound"),
    [
        *(("api.example", True), ("*.example", True), ("*.api.example", False), ("example", False)),
        *(("xapi.example", False), ("api.example.evil", False)),
    ],
)
def test_a_pattern_is_read_as_in_rules(tmp_path: Path, pattern: str, is_bound: bool) -> None:
    vault = Vault(120, tmp_path, Clock())
    vault.hear(schema.EgressSecrets(version="1", agents={"scout": [secret(pattern)]}))
    assert bool(vault.bound("scout", HOST, 443)) == is_bound
    assert not vault.bound("scout", HOST, 8443)
    assert not vault.bound("rook", HOST, 443)
    assert VALUE not in repr(vault.bound("scout", HOST, 443))


def test_what_no_rule_allows_is_not_reached_with_a_secret_either(site: Site) -> None:
    site.house.allow(HOST, effect="deny")
    answer = site.house.ask(f"CONNECT {HOST}:{site.port} HTTP/1.1\r\n\r\n".encode())
    assert code(answer) == "egress_denied"
    assert site.upstream.accepted == 0


def test_a_host_that_does_not_prove_who_it_is_gets_nothing(open_site: Callable[..., Site], tmp_path: Path) -> None:
    site = open_site()
    site.give(secret(f"other.example:{site.port}"))
    site.house.names["other.example"] = [["127.0.0.1"]]
    site.house.allow("other.example", site.port)
    with site.dial("other.example", "other.example") as line:
        line.sendall(f"GET / HTTP/1.1\r\nHost: other.example:{site.port}\r\nAuthorization: {MARK}\r\n\r\n".encode())
        answer = everything(line)
    assert (status(answer), code(answer)) == (502, "egress_unreachable")
    assert site.upstream.heard == []
    assert (site.house.contact().reason.startswith("with TOKEN"), site.house.contact().secrets) == (True, [])


# What the agent sends


@pytest.mark.parametrize(
    "message",
    [
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n",
        "GET https://evil.example/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nA: b\nX: y\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "nonsense\r\n\r\n",
    ],
)
def test_what_could_mean_two_things_gets_no_secret(site: Site, message: str) -> None:
    answer = site.ask(message.replace("HOST", f"{HOST}:{site.port}"))
    assert (status(answer), code(answer)) == (400, "invalid")
    assert site.upstream.heard == []


def test_a_second_request_behind_the_first_is_not_passed_on(site: Site) -> None:
    request = f"GET /1 HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n"
    assert site.ask(request + request.replace("/1", "/2")).count(b"HTTP/1.1 200") == 1
    assert len(site.upstream.heard) == 1
    assert b"/2" not in site.heard


def test_an_upgrade_is_none(site: Site) -> None:
    site.get("/", "Connection: Upgrade", "Upgrade: websocket")
    assert b"upgrade" not in site.heard.lower()


@pytest.mark.parametrize("name", ["evil.example", "xapi.example"])
def test_another_name_within_tls_is_refused(site: Site, name: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        site.dial(name)
    assert site.upstream.heard == []
    assert site.house.contact().verdict == "denied"


def test_only_http_1_is_spoken(site: Site) -> None:
    with site.dial(alpn=["h2", "http/1.1"]) as line:
        assert line.selected_alpn_protocol() == "http/1.1"


def test_who_trusts_nothing_is_told_nothing(site: Site) -> None:
    with site.house.tunnel(HOST, site.port) as line, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(line, server_hostname=HOST)
    until(lambda: "TLS" in site.house.contact().reason)
    assert site.upstream.heard == []


def test_a_handshake_has_an_end(open_site: Callable[..., Site]) -> None:
    site = open_site(bounds=Bounds(head_seconds=1))
    site.give(secret(f"{HOST}:{site.port}"))
    with site.house.tunnel(HOST, site.port) as line:
        line.sendall(b"\x16\x03\x01")
        assert everything(line) == b""
    assert "handshake" in site.house.contact().reason


# What comes back


def test_a_secret_does_not_come_back(open_site: Callable[..., Site]) -> None:
    """Neither at once nor in pieces."""

    def reflect(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        told = f"X-Told: {VALUE}\r\nX-{VALUE}: told\r\n"
        connection.sendall(f"HTTP/1.1 200 it is {VALUE}\r\n{told}Transfer-Encoding: chunked\r\n\r\n".encode())
        for piece in (f"<{VALUE}>{VALUE[:5]}", VALUE[5:], "ghp_very-", "ghp_very-secret-token!", VALUE[:-1]):
            connection.sendall(f"{len(piece):x}\r\n{piece}\r\n".encode())
        connection.sendall(b"0\r\n\r\n")

    site = open_site(reflect)
    site.give(secret(f"{HOST}:{site.port}"))
    answer = site.get("/", f"Authorization: {MARK}")
    assert VALUE.encode() in site.heard
    assert VALUE.lower().encode() not in answer.lower()
    assert f"<{'*' * len(VALUE)}>".encode() in answer
    assert answer.endswith(b"0\r\n\r\n")


def test_what_is_asked_for_is_plain_and_what_is_encoded_is_refused(open_site: Callable[..., Site]) -> None:
    site = open_site(answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx"))
    site.give(secret(f"{HOST}:{site.port}"))
    answer = site.get("/", "Accept-Encoding: gzip, br")
    assert b"accept-encoding: identity" in site.heard.lower()
    assert (status(answer), code(answer)) == (502, "egress_unreachable")


@pytest.mark.parametrize(
    "told",
    [
        b"HTTP/1.1 %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00%s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    ],
)
def test_an_answer_that_is_no_http_tells_no_secret(open_site: Callable[..., Site], caplog: pytest.LogCaptureFixture, told: bytes) -> None:
    """Neither the agent nor the colony nor the gate's own log."""
    caplog.set_level("INFO")
    site = open_site(answering(told % VALUE.encode()))
    site.give(secret(f"{HOST}:{site.port}"))
    answer = site.get("/", f"Authorization: Bearer {MARK}")
    assert site.house.contact().reason.endswith("its answer is no HTTP")
    until(lambda: "its answer is no HTTP" in caplog.text, "the gate's log")
    assert VALUE.encode() in site.heard
    assert VALUE not in answer.decode() + site.house.contact().reason + caplog.text


def test_a_secret_does_not_come_back_piece_by_piece(open_site: Callable[..., Site]) -> None:
    def tell(upstream: Upstream, connection: socket.socket) -> None:
        request = hear(connection)
        upstream.heard.append(request)
        told = b"it is " + VALUE.encode()
        for line in request.lower().split(b"\r\n"):
            if line.startswith(b"range: bytes="):
                first, _, last = line.partition(b"=")[2].partition(b"-")
                told = told[int(first) : int(last) + 1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told))

    site = open_site(tell)
    site.give(secret(f"{HOST}:{site.port}"))
    for first in (6, 16):
        answer = site.get("/", f"Authorization: {MARK}", f"Range: bytes={first}-{first + 9}", 'If-Range: "a"')
        assert answer.endswith(b"it is " + b"*" * len(VALUE))
    assert b"range" not in site.heard.lower()


@pytest.mark.parametrize("header", ["Accept-Charset: utf-16le", "TE: gzip", "Accept-Encoding: gzip"])
def test_no_host_is_asked_for_an_answer_in_disguise(site: Site, header: str) -> None:
    site.get("/", f"Authorization: {MARK}", header)
    assert VALUE.encode() in site.heard
    assert header.encode().partition(b": ")[2] not in site.heard


# When it holds no more


def test_a_secret_that_is_taken_away_cuts_what_is_open(open_site: Callable[..., Site]) -> None:
    def wait(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        everything(connection)

    site = open_site(wait)
    site.give(secret(f"{HOST}:{site.port}"))
    with site.dial() as line:
        line.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        until(lambda: site.upstream.heard)
        site.give()
        site.house.judge_again()
        assert b"secrets for this host have changed" in everything(line)


def test_what_changes_for_others_cuts_nothing_and_its_use_is_told_however_it_ends(open_site: Callable[..., Site]) -> None:
    def wait(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        everything(connection)

    site = open_site(wait)
    site.give(secret(f"{HOST}:{site.port}"))
    with site.dial() as line:
        line.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\nAuthorization: {MARK}\r\n\r\n".encode())
        until(lambda: site.upstream.heard)
        site.give(secret(f"{HOST}:{site.port}"), secret("other.example", name="OTHER"))
        site.house.judge_again()
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)
    assert site.house.contact().reason == "with TOKEN; the agent hung up"


def test_while_the_server_is_away_for_long_no_secret_is_used(site: Site) -> None:
    site.house.clock.now += site.house.bounds.away_seconds + 1
    site.house.hear()  # of the rules alone
    with site.house.tunnel(HOST, site.port) as line:
        assert everything(line) == b""
    assert "server has been away" in site.house.contact().reason
    assert site.upstream.heard == []
