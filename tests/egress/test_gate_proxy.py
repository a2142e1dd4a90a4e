"""Requests that are led out, and those that are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from colony import schema
from egress import service
from tests.egress.house import OK, House, Upstream, answering, code, echo, everything, hear, status, until


def get(port: int, path: str = "/", extra: str = "", method: str = "GET") -> bytes:
    return f"{method} http://127.0.0.1:{port}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra}\r\n".encode()


def test_what_no_rule_allows_is_denied_and_noted(house: House) -> None:
    for ask in (b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n", b"GET http://pypi.org/ HTTP/1.1\r\nHost: pypi.org\r\n\r\n"):
        answer = house.ask(ask)
        assert (status(answer), code(answer)) == (403, "egress_denied")
    assert house.looked_up == []  # not even its name leaves
    connect, http = house.contact(0), house.contact(1)
    assert (connect.linux_user, connect.host, connect.port) == ("scout", "pypi.org", 443)
    assert (connect.kind, connect.verdict) == ("connect", "denied")
    assert (http.port, http.kind, http.verdict) == (80, "http", "denied")
    assert connect.id != http.id


def test_a_tunnel_carries_bytes_both_ways_and_is_noted(house: House) -> None:
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        tunnel.sendall(b"hello")
        assert tunnel.recv(100) == b"hello"
        tunnel.shutdown(socket.SHUT_WR)
        assert everything(tunnel) == b""
    contact = house.contact()
    assert (contact.verdict, contact.sent_bytes, contact.received_bytes, contact.reason) == ("allowed", 5, 5, "")


def test_a_tunnel_carries_megabytes_unchanged_through_a_slow_reader(house: House) -> None:
    data = bytes(range(256)) * 4096 * 8

    def pour(upstream: Upstream, connection: socket.socket) -> None:
        connection.sendall(data)

    upstream = house.upstream(pour)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        found = tunnel.recv(10)
        until(lambda: upstream.accepted)
        assert found + everything(tunnel) == data
    assert house.contact().received_bytes == len(data)


def test_what_is_said_with_the_connect_is_passed_on(house: House) -> None:
    upstream = house.upstream(echo)
    with house.knock() as connection:
        connection.sendall(f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.0\r\n\r\nearly".encode())
        found = b""
        while not found.endswith(b"early"):
            found += connection.recv(100)
        assert found.startswith(b"HTTP/1.1 200")


def test_a_half_closed_tunnel_still_carries_the_answer(house: House) -> None:
    def late(upstream: Upstream, connection: socket.socket) -> None:
        heard = everything(connection)
        connection.sendall(b"heard " + heard)

    upstream = house.upstream(late)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        tunnel.sendall(b"all")
        tunnel.shutdown(socket.SHUT_WR)
        assert everything(tunnel) == b"heard all"


def test_plain_http_is_passed_on_without_what_ends_at_the_gate(house: House) -> None:
    answer_head = b"HTTP/1.1 203 Fine\r\nX-Kept: 1\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nConnection: x-hop\r\nContent-Length: 2\r\n\r\nok"
    upstream = house.upstream(answering(answer_head))
    extra = "Proxy-Authorization: Basic eDp5\r\nConnection: X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nAccept: a\r\n"
    answer = house.ask(get(upstream.port, "/a?b=%20", extra))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.splitlines()[0], body) == (b"HTTP/1.1 203 Fine", b"ok")
    names = {line.split(b":")[0].lower() for line in head.splitlines()[1:]}
    assert names == {b"x-kept", b"content-length", b"connection"}
    heard = upstream.heard[0].lower()
    assert heard.startswith(b"get /a?b=%20 http/1.1\r\n")
    assert {line.split(b":")[0] for line in heard.split(b"\r\n")[1:] if line} == {b"host", b"accept", b"connection"}
    assert f"host: 127.0.0.1:{upstream.port}\r\n".encode() in heard
    contact = house.contact()
    assert (contact.kind, contact.verdict, contact.received_bytes) == ("http", "allowed", len(answer_head))


def test_a_body_arrives_as_it_is_said(house: House) -> None:
    heard: list[bytes] = []

    def listen(upstream: Upstream, connection: socket.socket) -> None:
        while b"end" not in b"".join(heard):
            heard.append(connection.recv(4096))
        connection.sendall(OK)

    port = house.upstream(listen).port
    with house.knock() as connection:
        connection.sendall(f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 6\r\n\r\nsta".encode())
        until(lambda: b"sta" in b"".join(heard))
        connection.sendall(b"end")
        assert everything(connection).endswith(b"ok")


@pytest.mark.parametrize("framing", ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_arrives_whole(house: House, framing: str) -> None:
    upstream = house.upstream()
    body = b"0123456789" if "Length" in framing else b"4\r\n0123\r\n6;ext=1\r\n456789\r\n0\r\nTrailer: x\r\n\r\n"
    assert status(house.ask(get(upstream.port, extra=framing, method="POST") + body)) == 200
    heard = upstream.heard[0]
    assert b"Trailer" not in heard
    assert b"ext" not in heard
    assert heard.endswith(b"0123456789") or heard.endswith(b"\r\n\r\na\r\n0123456789\r\n0\r\n\r\n")


def test_an_answer_without_a_length_ends_where_upstream_hangs_up(house: House) -> None:
    upstream = house.upstream(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it"))
    assert b"all of it" in house.ask(get(upstream.port))


def test_a_head_request_has_no_body(house: House) -> None:
    upstream = house.upstream(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))
    assert house.ask(get(upstream.port, method="HEAD")).endswith(b"\r\n\r\n")
    refused = house.ask(b"HEAD http://pypi.org/ HTTP/1.1\r\nHost: pypi.org\r\n\r\n")
    assert status(refused) == 403
    assert refused.endswith(b"\r\n\r\n")


def test_who_waits_for_leave_to_send_gets_it(house: House) -> None:
    upstream = house.upstream()
    with house.knock() as connection:
        connection.sendall(get(upstream.port, extra="Content-Length: 4\r\nExpect: 100-continue\r\n", method="PUT"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"body")
        assert b"200 OK" in everything(connection)
    assert b"expect" not in upstream.heard[0].lower()


def test_an_early_answer_ends_a_long_upload(house: House) -> None:
    def refuse(upstream: Upstream, connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        everything(connection)

    upstream = house.upstream(refuse)
    with house.knock() as connection:
        connection.sendall(get(upstream.port, extra="Content-Length: 1000000\r\n", method="POST") + b"x" * 1000)
        assert everything(connection).startswith(b"HTTP/1.1 413")


def test_where_nothing_listens_is_said(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    house.allow("127.0.0.1", port)
    answer = house.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert (status(answer), code(answer)) == (502, "egress_unreachable")
    assert house.contact().verdict == "failed"


def test_a_name_without_an_address_is_said(house: House) -> None:
    house.allow("nowhere.example")
    answer = house.ask(b"CONNECT nowhere.example:443 HTTP/1.1\r\n\r\n")
    assert (status(answer), code(answer)) == (502, "egress_unreachable")


def test_the_next_address_is_tried_where_one_does_not_answer(house: House) -> None:
    upstream = house.upstream()
    house.allow("127.0.0.9", upstream.port)
    house.allow("two.example", upstream.port)
    house.names["two.example"] = [["127.0.0.9", "127.0.0.1"]]
    house.tunnel("two.example", upstream.port).close()
    contact = house.contact()
    assert (contact.host, contact.verdict) == ("two.example", "allowed")


def test_an_ipv6_address_is_reached_as_it_is_named(house: House) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        assert status(house.ask(f"CONNECT [::1]:{port} HTTP/1.1\r\n\r\n".encode())) == 403
        house.allow("::1", port)
        with house.tunnel("[0:0:0:0::1]", port) as tunnel, listening.accept()[0] as reached:
            tunnel.sendall(b"hello")
            assert reached.recv(100) == b"hello"


def test_before_any_rules_were_heard_nothing_leaves(open_house: Callable[..., House]) -> None:
    house = open_house(hears_rules=False)
    answer = house.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
    assert (status(answer), code(answer)) == (403, "egress_blind")
    answer = house.ask(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert (status(answer), code(answer)) == (503, "egress_blind")


def test_rules_are_forgotten_when_the_server_has_been_away_too_long(house: House) -> None:
    upstream = house.upstream()
    house.clock.now += house.bounds.away_seconds
    assert status(house.ask(get(upstream.port))) == 200
    house.clock.now += 1
    answer = house.ask(get(upstream.port))
    assert (status(answer), code(answer)) == (403, "egress_blind")
    assert b"has been away for 121 s" in answer
    house.hear()
    assert status(house.ask(get(upstream.port))) == 200


def test_what_is_open_is_cut_when_the_server_has_been_away_too_long(house: House) -> None:
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        house.clock.now += house.bounds.away_seconds
        tunnel.sendall(b"still")
        assert tunnel.recv(100) == b"still"
        house.clock.now += service.JUDGE_SECONDS
        assert everything(tunnel) == b""
    assert house.contact().reason.startswith("no longer allowed: the colony's server has been away for 135 s")


def test_a_judgement_that_breaks_is_not_the_last_one() -> None:
    judged: list[float] = []
    slept: list[float] = []

    def judge() -> None:
        judged.append(len(slept))
        raise ValueError("broken")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(service.judge_again_and_again(judge, sleep))
    assert slept == [service.JUDGE_SECONDS] * 4
    assert judged == [1, 2, 3]


@pytest.mark.parametrize("user", [None, "stranger", "root", "SCOUT", "scout "])
def test_whoever_is_no_agent_is_sent_away(house: House, user: str | None) -> None:
    upstream = house.upstream()
    house.user = user
    answer = house.ask(get(upstream.port))
    assert (status(answer), code(answer)) == (403, "egress_stranger")
    assert upstream.accepted == 0


def test_another_agents_rule_opens_nothing(house: House) -> None:
    upstream = house.upstream()
    house.user = "rook"
    for spoofed in ("", "X-Forwarded-User: scout\r\n", "Proxy-Authorization: Basic c2NvdXQ6\r\n", "Remote-User: scout\r\n"):
        assert status(house.ask(get(upstream.port, extra=spoofed))) == 403
    assert upstream.accepted == 0


BREAKAGES: dict[str, Callable[..., Any]] = {
    "it raises": lambda rules, host, port: 1 / 0,
    "it returns nothing": lambda rules, host, port: None,
    "it returns something true": lambda rules, host, port: "allowed",
    "its verdict is no bool": lambda rules, host, port: type("V", (), {"is_allowed": "yes", "reason": "", "rule": None})(),
    "it runs away": lambda rules, host, port: BREAKAGES["it runs away"](rules, host, port),
}


@pytest.mark.parametrize("how", BREAKAGES)
def test_an_error_in_deciding_is_a_deny(open_house: Callable[..., House], how: str) -> None:
    house = open_house(decide=BREAKAGES[how])
    upstream = house.upstream()
    answer = house.ask(get(upstream.port))
    assert (status(answer), code(answer)) == (403, "egress_denied")
    assert upstream.accepted == 0


def test_rules_that_are_none_are_a_deny(house: House) -> None:
    upstream = house.upstream()
    for broken in ([object()], None, [None], "127.0.0.1", [schema.EgressRule.model_construct(host=None, effect="allow", ports=None)]):
        house.policy.hear(schema.EgressPolicy.model_construct(version="broken", agents={"scout": broken}))
        assert status(house.ask(get(upstream.port))) == 403
    assert upstream.accepted == 0


def test_an_address_that_cannot_be_judged_is_not_reached(open_house: Callable[..., House]) -> None:
    from colony import egress

    def once(rules: list[schema.EgressRule], host: str, port: int) -> Any:
        if host == "127.0.0.1":
            raise RuntimeError("broken")
        return egress.decide(rules, host, port)

    house = open_house(decide=once)
    upstream = house.upstream()
    house.allow("name.example", upstream.port)
    house.names["name.example"] = [["127.0.0.1"]]
    assert status(house.ask(f"CONNECT name.example:{upstream.port} HTTP/1.1\r\n\r\n".encode())) == 403
    assert upstream.accepted == 0


def test_a_tunnel_is_cut_when_its_rule_is_gone_and_only_that_one(house: House) -> None:
    cut, kept = house.upstream(echo), house.upstream(echo)
    with house.tunnel("127.0.0.1", cut.port) as first, house.tunnel("127.0.0.1", kept.port) as second:
        house.rules["scout"] = [rule for rule in house.rules["scout"] if rule.ports == [kept.port]]
        house.hear()
        house.judge_again()
        assert everything(first) == b""
        second.sendall(b"still")
        assert second.recv(100) == b"still"
    assert house.contact().verdict == "failed"
    assert house.contact().reason.startswith("no longer allowed")


def test_a_download_is_cut_when_its_agent_is_gone(house: House) -> None:
    def endless(upstream: Upstream, connection: socket.socket) -> None:
        hear(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nstart")
        everything(connection)

    upstream = house.upstream(endless)
    with house.knock() as connection:
        connection.sendall(get(upstream.port))
        found = b""
        while b"start" not in found:
            found += connection.recv(1000)
        del house.rules["scout"]
        house.hear()
        house.judge_again()
        assert everything(connection) == b""
    assert house.contact().reason.startswith("no longer allowed")


def test_upstream_is_let_go_when_the_agent_hangs_up(house: House) -> None:
    gone: list[bool] = []

    def wait(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        try:
            gone.append(everything(connection) == b"")
        except OSError:
            gone.append(True)

    upstream = house.upstream(wait)
    with house.knock() as connection:
        connection.sendall(get(upstream.port))
        until(lambda: upstream.heard)
    assert until(lambda: gone) == [True]
    assert house.contact().reason == "the agent hung up"


def test_who_is_done_with_sending_still_gets_the_answer(house: House) -> None:
    upstream = house.upstream(answering(OK))
    with house.knock() as connection:
        connection.sendall(get(upstream.port))
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).endswith(b"ok")


def test_who_hangs_up_without_asking_leaves_nothing(house: House) -> None:
    for _ in range(20):
        house.knock().close()
    upstream = house.upstream()
    assert status(house.ask(get(upstream.port))) == 200
    assert len([house.contact()]) == len(house.colony.ended)
