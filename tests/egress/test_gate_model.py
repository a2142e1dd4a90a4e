"""The model endpoint: the key goes where it belongs, and nowhere else."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from colony import errors
from egress.settings import OAUTH_BETA, Bounds, Model, Secret
from tests.egress.house import House, Upstream, answering, code, everything, hear, status, until

KEY = "sk-ant-very-secret"
QUESTION = b'{"max_tokens":10,"model":"claude-test","messages":[]}'
Opened = Callable[..., House]


@pytest.fixture
def upstreams() -> Iterator[Callable[..., Upstream]]:
    """The model's API, as a test wants it."""
    made: list[Upstream] = []

    def make(handle: Callable[[Upstream, socket.socket], None] | None = None, tls: ssl.SSLContext | None = None) -> Upstream:
        made.append(Upstream(handle, tls))
        return made[-1]

    yield make
    for each in made:
        each.close()


def model(upstream: Upstream, path: str = "", header: str = "x-api-key", value: str = KEY, beta: str = "") -> Model:
    return Model(f"http://127.0.0.1:{upstream.port}{path}", header, Secret(value), beta)


def post(path: str = "/v1/messages?beta=true", extra: str = "", body: bytes = QUESTION, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: colony.invalid\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def headers(heard: bytes) -> list[tuple[bytes, bytes]]:
    lines = heard.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]


def test_the_key_is_added_and_whatever_the_agent_sent_for_one_is_gone(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream))
    extra = "Authorization: Bearer mine\r\nX-Api-Key: mine\r\nx-api-key: too\r\nX_Api_Key: too\r\nCookie: a=b\r\n"
    answer = house.ask(post(extra=extra + "anthropic-version: 2023-06-01\r\nAccept-Encoding: gzip\r\n"))
    assert answer.endswith(b"\r\n\r\nok")
    assert KEY.encode() not in answer
    heard = upstream.heard[0]
    assert heard.startswith(b"POST /v1/messages?beta=true HTTP/1.1\r\n")
    assert heard.endswith(b"\r\n\r\n" + QUESTION)
    assert sorted(headers(heard)) == [
        (b"accept-encoding", b"identity"),
        (b"anthropic-version", b"2023-06-01"),
        (b"connection", b"close"),
        (b"content-length", str(len(QUESTION)).encode()),
        (b"host", f"127.0.0.1:{upstream.port}".encode()),
        (b"x-api-key", KEY.encode()),
    ]
    contact = house.contact()
    assert (contact.kind, contact.verdict, contact.host, contact.port) == ("model", "allowed", "127.0.0.1", upstream.port)


def test_no_rule_is_about_the_model(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream))
    house.allow("*", effect="deny")
    assert status(house.ask(post())) == 200
    assert (
        status(house.ask(f"GET http://127.0.0.1:{upstream.port}/v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{upstream.port}\r\n\r\n".encode()))
        == 403
    )


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("", OAUTH_BETA),
        ("anthropic-beta: a-1\r\n", f"a-1,{OAUTH_BETA}"),
        ("Anthropic-Beta: a-1, b-2\r\nanthropic-beta: c-3\r\n", f"a-1,b-2,c-3,{OAUTH_BETA}"),
        (f"anthropic-beta: {OAUTH_BETA},a-1\r\n", f"{OAUTH_BETA},a-1"),
    ],
)
def test_a_subscriptions_token_brings_its_beta(open_house: Opened, upstreams: Callable[..., Upstream], sent: str, arrives: str) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream, header="authorization", value=f"Bearer {KEY}", beta=OAUTH_BETA))
    house.ask(post(extra=sent))
    found = headers(upstream.heard[0])
    assert [value for name, value in found if name == b"anthropic-beta"] == [arrives.encode()]
    assert [value for name, value in found if name == b"authorization"] == [f"Bearer {KEY}".encode()]


def test_an_api_below_a_path_is_found_there(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams()
    open_house(model=model(upstream, "/gateway/anthropic")).ask(post())
    assert upstream.heard[0].startswith(b"POST /gateway/anthropic/v1/messages?beta=true ")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1", "/v1/", "/v2/messages", "/V1/messages", "/v1/../admin", "/v1/./x", "/v1/x/..", "/v1/x/.", "/v1//messages"),
        "//v1/x",
        *(
            "//evil.example/v1/x",
            "/v1/%2e%2e/admin",
            "/v1/%2F",
            "/v1/x%00",
            "/v1/..%2fadmin",
            "/v1/x\\..\\y",
            "/v1/messages#x",
            "/v1/x?a#b",
        ),
        *("/v1/..;/admin", "/healthz", "/api/users", "/?/v1/messages"),
        *("/v1/files", "/v1/messages/batches", "/v1/messages/", "/v1/messages/count_tokens/", "/v1/models", "/v1/code/sessions"),
        *("/v1/messages?_method=DELETE", "/v1/messages?beta=true&_method=PUT", "/v1/messages?beta=%00", "/v1/messages?beta=true&"),
    ],
)
def test_no_path_leads_out_of_the_model(open_house: Opened, upstreams: Callable[..., Upstream], path: str) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream))
    answer = house.ask(post(path))
    assert status(answer) in (400, 403)
    assert upstream.accepted == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/models/claude-x"])
def test_no_method_does_more_than_ask(open_house: Opened, upstreams: Callable[..., Upstream], method: str, path: str) -> None:
    if (method, path[:10]) == ("GET", "/v1/models"):
        path = "/v1/models/.."
    upstream = upstreams()
    answer = open_house(model=model(upstream)).ask(post(path, method=method))
    assert status(answer) == 403
    assert upstream.accepted == 0
    assert method == "HEAD" or b"POST /v1/messages, " in answer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "/v1/messages"), ("POST", "/v1/messages?beta=true"), ("POST", "/v1/messages/count_tokens?beta=true")),
        *(("GET", "/v1/models?limit=1000"), ("GET", "/v1/models?beta=true&after_id=x-1&limit=2"), ("GET", "/v1/models/claude-x-4.5@1")),
    ],
)
def test_what_claude_code_asks_is_asked(open_house: Opened, upstreams: Callable[..., Upstream], method: str, path: str) -> None:
    upstream = upstreams()
    assert status(open_house(model=model(upstream)).ask(post(path, method=method))) == 200
    assert upstream.heard[0].startswith(f"{method} {path} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "name",
    [
        *("X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Rewrite-URL", "X_Rewrite_URL", "X-Envoy-Original-Path"),
        *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "Max-Forwards"),
        *("Forwarded", "X-Forwarded-For", "X-Forwarded-Prefix", "X-Forwarded-Host", "X_Forwarded_Uri"),
        *("Helicone-Target-Url", "X-Portkey-Config", "X-Of-The-Future", "anthropic-workspace-id", "Content-Encoding"),
    ],
)
def test_no_header_makes_another_request_of_it(open_house: Opened, upstreams: Callable[..., Upstream], name: str) -> None:
    upstream = upstreams()
    assert status(open_house(model=model(upstream)).ask(post(extra=f"{name}: /hidden\r\n"))) == 200
    assert b"/hidden" not in upstream.heard[0]


@pytest.mark.parametrize(
    "message",
    [
        "GET http://{host}/v1/messages HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ],
)
def test_whoever_reaches_the_models_host_by_another_way_has_no_key(
    open_house: Opened, upstreams: Callable[..., Upstream], message: str
) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream))
    host = f"127.0.0.1:{upstream.port}"
    assert status(house.ask(message.format(host=host).encode())) == 403
    house.allow("127.0.0.1", upstream.port)
    with house.knock() as connection:
        connection.sendall(message.format(host=host).encode() + b"GET / HTTP/1.1\r\n\r\n")
        connection.recv(100)
        until(lambda: upstream.heard)
    assert KEY.encode() not in upstream.heard[0]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/claude-x"])
def test_who_runs_no_turn_is_told_of_no_models(open_house: Opened, upstreams: Callable[..., Upstream], path: str) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream))
    house.colony.trouble = errors.StaleTurn("no turn of the agent runs")
    answer = house.ask(post(path, body=b"", method="GET"))
    assert (status(answer), code(answer), upstream.accepted) == (403, "egress_denied", 0)


def test_another_field_may_be_asked_where_the_settings_say_so(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    said = QUESTION.replace(b"}", b',"inference_geo":"us"}')
    upstream = upstreams()
    answer = open_house(model=model(upstream)).ask(post(body=said))
    assert (status(answer), code(answer), upstream.accepted) == (400, "egress_denied", 0)
    assert status(open_house(model=model(upstream), model_fields=("inference_geo",)).ask(post(body=said))) == 200
    assert b'"inference_geo":"us"' in upstream.heard[0]


@pytest.mark.parametrize(
    ("version", "expected"), [("2023-06-01", 200), ("2026-10-21", 200), ("2027-01-01", 400), ("2023-06-01, x", 400), ("", 400)]
)
def test_a_version_of_the_api_in_which_nobody_knows_what_is_asked_is_refused(
    open_house: Opened, upstreams: Callable[..., Upstream], version: str, expected: int
) -> None:
    upstream = upstreams()
    answer = open_house(model=model(upstream)).ask(post(extra=f"anthropic-version: {version}\r\n"))
    assert (status(answer), upstream.accepted) == (expected, int(expected == 200))


def test_a_redirection_is_not_followed(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    elsewhere = upstreams()
    to = f"http://127.0.0.1:{elsewhere.port}/v1/messages"
    upstream = upstreams(answering(f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()))
    answer = open_house(model=model(upstream)).ask(post())
    assert status(answer) == 307
    assert to.encode() in answer
    assert elsewhere.accepted == 0


def test_events_arrive_as_they_are_said(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    arrived = socket.socketpair()

    def stream(upstream: Upstream, connection: socket.socket) -> None:
        hear(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = f"data: {number}\n\n".encode()
            connection.sendall(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            assert arrived[0].recv(1)  # the next only when this one was seen
        connection.sendall(b"0\r\n\r\n")

    house = open_house(model=model(upstreams(stream)))
    with house.knock() as connection:
        connection.sendall(post())
        found = b""
        for number in range(3):
            while f"data: {number}\n\n".encode() not in found:
                found += connection.recv(4096)
            arrived[1].send(b".")
        assert everything(connection).endswith(b"0\r\n\r\n")
    for end in arrived:
        end.close()


def test_the_model_hears_that_its_agent_has_gone(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    """What nobody reads any more should not be thought, nor paid."""
    gone: list[bytes] = []

    def think(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        gone.append(everything(connection) + b"gone")

    upstream = upstreams(think)
    house = open_house(model=model(upstream))
    with house.knock() as connection:
        connection.sendall(post())
        until(lambda: upstream.heard)
    assert until(lambda: gone) == [b"gone"]


def test_only_agents_are_let_through(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams()
    house = open_house(model=model(upstream))
    for user in (None, "stranger", "root"):
        house.user = user
        answer = house.ask(post(extra="X-Forwarded-User: scout\r\n"))
        assert (status(answer), code(answer)) == (403, "egress_stranger")
    assert upstream.accepted == 0


def test_an_api_that_is_away_or_silent_is_said(open_house: Opened, upstreams: Callable[..., Upstream]) -> None:
    def silent(upstream: Upstream, connection: socket.socket) -> None:
        everything(connection)

    house = open_house(Bounds(model_seconds=1), model=model(upstreams(silent)))
    answer = house.ask(post())
    assert (status(answer), code(answer)) == (504, "egress_timeout")
    away = open_house(model=Model("http://127.0.0.1:1", "x-api-key", Secret(KEY)))
    answer = away.ask(post())
    assert (status(answer), code(answer)) == (502, "egress_unreachable")
    assert KEY.encode() not in answer


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that says it is `name`, and what a server needs to show it."""
    made, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *subject]
    subprocess.run([*argv, "-keyout", key, "-out", made], check=True, capture_output=True)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(made, key)
    return made, shown


def test_the_key_is_said_only_to_who_proves_to_be_the_api(open_house: Opened, upstreams: Callable[..., Upstream], tmp_path: Path) -> None:
    made, shown = certificate(tmp_path, "api.example")
    upstream = upstreams(tls=shown)
    trusting = ssl.create_default_context(cafile=str(made))
    for host, tls, expected in (("api.example", trusting, 200), ("other.example", trusting, 502), ("api.example", None, 502)):
        house = open_house(model=Model(f"https://{host}:{upstream.port}", "x-api-key", Secret(KEY)), tls=tls)
        house.names[host] = [["127.0.0.1"]]
        answer = house.ask(post())
        assert status(answer) == expected, answer
        assert KEY.encode() not in answer
    assert len(upstream.heard) == 1


def test_no_log_holds_the_key(open_house: Opened, upstreams: Callable[..., Upstream], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    broken = upstreams(answering(b"HTTP/1.1 nonsense\r\n\r\n"))
    house = open_house(model=model(broken))
    house.ask(post())
    house.ask(post("/v1/../x"))
    house.contact(1)
    assert KEY not in caplog.text
    assert KEY not in "".join(contact.model_dump_json() for contact in house.colony.contacts)
