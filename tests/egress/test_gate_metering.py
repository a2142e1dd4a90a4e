"""What the model's answers have used is booked before they come, read as they pass by, and settled however they end."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from colony import errors
from egress.model import COUNTING
from egress.prices import DEAREST, KNOWN, Price, Prices, Tokens
from egress.settings import Model, Secret
from tests.egress.house import House, Upstream, answering, code, everything, hear, status, until
from tests.egress.test_gate_model import post

Opened = Callable[..., House]
OPUS = "claude-opus-4-5-20251101"
USAGE = {"input_tokens": 1000, "cache_read_input_tokens": 10_000, "cache_creation_input_tokens": 2000}
CREATED = {"cache_creation": {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500}}
TOKENS = Tokens(input=1000, output=300, cache_read=10_000, cache_write=1500, cache_write_hour=500)
USD = (1000 * 5 + 10_000 * 0.5 + 1500 * 6.25 + 500 * 10 + 300 * 25) / 1e6


def event(**said: Any) -> bytes:
    return f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()


STARTS = event(type="message_start", message={"id": "m", "usage": {**USAGE, **CREATED, "output_tokens": 1}})
ENDS = event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 300}) + event(type="message_stop")


def delta(text: str) -> bytes:
    return event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def whole(**said: Any) -> bytes:
    content = json.dumps(said).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


def streamed(*events: bytes) -> bytes:
    content = b"".join(events)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


def ask(max_tokens: int = 300, *, stream: bool = True, model: str = OPUS, **more: Any) -> bytes:
    said = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return post(body=json.dumps(said | more).encode())


def counting(**said: Any) -> bytes:
    return post(COUNTING, body=json.dumps(said).encode())


@pytest.fixture
def api() -> Iterator[Callable[..., Upstream]]:
    made: list[Upstream] = []

    def make(handle: Callable[[Upstream, socket.socket], None] | bytes) -> Upstream:
        made.append(Upstream(answering(handle) if isinstance(handle, bytes) else handle))
        return made[-1]

    yield make
    for each in made:
        each.close()


def at(open_house: Opened, upstream: Upstream) -> House:
    return open_house(model=Model(f"http://127.0.0.1:{upstream.port}", "x-api-key", Secret("sk")))


def final(house: House) -> Any:
    return until(lambda: [request for request in house.colony.metered if request.is_final], "a settlement")[-1]


def asked_of(upstream: Upstream, number: int = -1) -> Any:
    """What a question that the API has heard says."""
    return json.loads(upstream.heard[number].partition(b"\r\n\r\n")[2])


# Prices


@pytest.mark.parametrize(
    ("model", "price"),
    [
        (OPUS, KNOWN["claude-opus-4-5"]),
        ("claude-opus-4-20250514", Price(15, 75)),
        ("claude-opus-4-1-20250805", Price(15, 75)),
        ("claude-opus-5-5", Price(4, 20, cache_read=0.05)),
        ("claude-opus-5", Price(5, 25)),
        ("claude-sonnet-4-5-20250929", Price(3, 15, long=200_000, times=2)),
        ("claude-sonnet-4-6", Price(3, 15)),
        ("claude-haiku-4-5-20251001", Price(1, 5)),
        ("claude-3-5-haiku-latest", Price(0.8, 4)),
        ("of-the-future", DEAREST),
    ],
)
def test_a_model_costs_what_its_family_does_and_an_unknown_one_the_most(model: str, price: Price) -> None:
    assert Prices().of(model) == price


def test_the_settings_prices_come_first() -> None:
    prices = Prices({"claude-opus": Price(1, 2), "mine": Price(0, 0)})
    assert (prices.of(OPUS), prices.of("mine-7")) == (Price(1, 2), Price(0, 0))


def test_what_tokens_cost() -> None:
    assert Prices().usd(OPUS, TOKENS) == pytest.approx(USD)
    assert Prices().usd(OPUS, TOKENS, is_fast=True) == pytest.approx(6 * USD)
    assert Prices().usd(OPUS, Tokens(web_searches=3)) == pytest.approx(0.03)
    assert Prices().usd("claude-opus-5-5", Tokens(cache_read=1_000_000)) == pytest.approx(0.2)
    short, long = Tokens(cache_read=100_000, output=10_000), Tokens(input=1, cache_read=100_000, output=10_000)
    assert Prices().usd("claude-haiku-5-5", short) == pytest.approx(0.001 + 0.005)
    assert Prices().usd("claude-haiku-5-5", long) == pytest.approx(5 * (0.001 + 0.005 + 1e-7))


# The gate


@pytest.mark.parametrize("stream", [True, False])
def test_it_is_booked_before_and_settled_after(open_house: Opened, api: Callable[..., Upstream], stream: bool) -> None:
    said = streamed(STARTS, delta("hello"), ENDS) if stream else whole(usage={**USAGE, **CREATED, "output_tokens": 300})
    upstream = api(said)
    house = at(open_house, upstream)
    booked: list[int] = []

    def book(found: Upstream, connection: socket.socket) -> None:
        booked.append(len(house.colony.metered))
        answering(said)(found, connection)

    upstream._handle = book
    assert house.ask(ask(stream=stream)).endswith(said.partition(b"\r\n\r\n")[2])
    assert booked == [1], "before it went out"
    request = final(house)
    assert (request.linux_user, request.model, request.tokens_in, request.tokens_out) == ("scout", OPUS, 13_000, 300)
    assert request.cost_usd == pytest.approx(USD)
    assert {each.id for each in house.colony.metered} == {request.id}


def test_what_a_cache_may_be_written_with_is_booked_at_that_price(open_house: Opened, api: Callable[..., Upstream]) -> None:
    house = at(open_house, api(streamed(STARTS, ENDS)))
    assert status(house.ask(ask(cache_control={"type": "ephemeral", "ttl": "1h"}))) == 200
    booked = house.colony.metered[0]
    assert booked.cost_usd == pytest.approx((booked.tokens_in * 10 + 300 * 25) / 1e6)


def test_what_may_cost_too_much_never_goes_out(open_house: Opened, api: Callable[..., Upstream]) -> None:
    upstream = api(streamed(STARTS, ENDS))
    house = at(open_house, upstream)
    house.colony.allowed_usd = 0.001
    answer = house.ask(ask(max_tokens=1000))
    assert (status(answer), code(answer)) == (402, "budget_spent")
    assert b'"billing_error"' in answer
    assert upstream.accepted == 0
    assert house.contact().verdict == "denied"
    house.colony.allowed_usd = 0.01
    assert status(house.ask(ask(max_tokens=64, stream=False))) == 200
    assert status(house.ask(ask(max_tokens=100_000, stream=False))) == 402, "a whole answer is booked as a whole"


@pytest.mark.parametrize("stream", [True, False])
def test_of_the_answer_no_more_is_asked_for_than_the_turn_may_cost(open_house: Opened, api: Callable[..., Upstream], stream: bool) -> None:
    """All that is thought is paid for, and not all of it is shown: only what was never asked for is surely not spent."""

    def think(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        usage = {"input_tokens": 30, "output_tokens": asked_of(upstream)["max_tokens"]}
        starts = event(type="message_start", message={"usage": {"input_tokens": 30, "output_tokens": 1}})
        end = event(type="message_delta", delta={"stop_reason": "max_tokens"}, usage=usage)
        connection.sendall(streamed(starts, delta("ok"), end) if stream else whole(usage=usage))

    upstream = api(think)
    house = at(open_house, upstream)
    house.colony.allowed_usd = 0.10
    answer = house.ask(ask(64_000, stream=stream, thinking={"type": "enabled", "budget_tokens": 60_000, "display": "omitted"}))
    assert status(answer) == 200
    asked = asked_of(upstream)
    assert (asked["thinking"]["budget_tokens"], 3900 < asked["max_tokens"] < 4000) == (1024, True)
    assert 0.09 < final(house).cost_usd <= 0.10
    assert house.contact().reason == f"for at most {asked['max_tokens']} tokens, as many as the turn may cost"


def test_what_claude_code_asks_is_asked_as_it_is_where_its_turn_may_cost_that(open_house: Opened, api: Callable[..., Upstream]) -> None:
    upstream = api(streamed(STARTS, ENDS))
    house = at(open_house, upstream)
    house.colony.allowed_usd = 1.0
    thinking = {"type": "enabled", "budget_tokens": 31_999}
    assert status(house.ask(ask(32_000, thinking=thinking))) == 200
    asked = asked_of(upstream)
    assert (asked["max_tokens"], asked["thinking"]) == (32_000, thinking)
    assert final(house).cost_usd == pytest.approx(USD)


def test_of_what_is_left_some_is_left_for_what_a_turn_asks_meanwhile(open_house: Opened, api: Callable[..., Upstream]) -> None:
    def wait(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        everything(connection)

    def heard_from(number: int) -> list[bytes]:
        return upstream.heard[number:]

    upstream = api(wait)
    house = at(open_house, upstream)
    house.colony.allowed_usd = 2.0  # 80,000 tokens
    with house.knock() as first, house.knock() as second:
        for number, connection in enumerate((first, second)):
            connection.sendall(ask(128_000))
            until(partial(heard_from, number))
        assert [asked_of(upstream, number)["max_tokens"] // 1000 for number in (0, 1)] == [39, 19]


def test_a_stream_whose_question_was_larger_than_it_seemed_is_cut(open_house: Opened, api: Callable[..., Upstream]) -> None:
    def talk(upstream: Upstream, connection: socket.socket) -> None:
        hear(connection)
        read = event(type="message_start", message={"usage": {"input_tokens": 10**6, "output_tokens": 1}})
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + read)
        everything(connection)

    house = at(open_house, api(talk))
    house.colony.allowed_usd = 1.0
    house.ask(ask(max_tokens=1000))
    assert final(house).cost_usd == pytest.approx(5 + 0.025)
    assert "this turn may cost" in house.contact().reason


def test_a_refusal_of_the_api_costs_nothing(open_house: Opened, api: Callable[..., Upstream]) -> None:
    house = at(open_house, api(b"HTTP/1.1 529 Overloaded\r\nContent-Length: 2\r\n\r\n{}"))
    assert status(house.ask(ask())) == 529
    assert (final(house).cost_usd, final(house).tokens_in) == (0.0, 0)


def test_an_api_that_is_away_costs_nothing(open_house: Opened) -> None:
    house = open_house(model=Model("http://127.0.0.1:1"))
    assert status(house.ask(ask())) == 502
    assert final(house).cost_usd == 0.0


def test_what_nobody_waits_for_any_more_costs_what_it_was_estimated(open_house: Opened, api: Callable[..., Upstream]) -> None:
    def think(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        everything(connection)

    upstream = api(think)
    house = at(open_house, upstream)
    with house.knock() as connection:
        connection.sendall(ask(max_tokens=50))
        until(lambda: upstream.heard)
    assert (final(house).tokens_out, final(house).tokens_in > 10) == (50, True)


def test_who_hangs_up_while_it_thinks_has_used_all_that_it_asked_for(open_house: Opened, api: Callable[..., Upstream]) -> None:
    def think(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + STARTS + delta("the answer"))
        everything(connection)

    house = at(open_house, api(think))
    with house.knock() as connection:
        connection.sendall(ask(64_000, thinking={"type": "enabled", "budget_tokens": 60_000, "display": "omitted"}))
        heard = b""
        while b"the answer" not in heard:
            heard += connection.recv(65536)
    assert (final(house).tokens_in, final(house).tokens_out) == (13_000, 64_000)


def test_an_encoded_answer_is_refused(open_house: Opened, api: Callable[..., Upstream]) -> None:
    house = at(open_house, api(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx"))
    answer = house.ask(ask())
    assert (status(answer), code(answer)) == (502, "egress_unreachable")
    assert final(house).tokens_out == 300


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (errors.Unavailable("nobody answers"), (503, "egress_blind")),
        (errors.StaleTurn("no turn of the agent runs"), (403, "egress_denied")),
        (errors.NotFound("no agent has that Linux user"), (403, "egress_denied")),
        (errors.ColonyError(), (503, "egress_blind")),
    ],
)
def test_what_can_not_be_booked_never_goes_out(
    open_house: Opened, api: Callable[..., Upstream], trouble: Exception, expected: tuple[int, str]
) -> None:
    upstream = api(streamed(STARTS, ENDS))
    house = at(open_house, upstream)
    house.colony.trouble = trouble
    answer = house.ask(ask())
    assert (status(answer), code(answer)) == expected
    assert upstream.accepted == 0


def test_a_settlement_waits_for_a_server_that_is_away(open_house: Opened, api: Callable[..., Upstream]) -> None:
    house: House

    def answer(upstream: Upstream, connection: socket.socket) -> None:
        hear(connection)
        house.colony.trouble = errors.Unavailable("away")
        connection.sendall(streamed(STARTS, ENDS))

    house = at(open_house, api(answer))
    assert status(house.ask(ask())) == 200
    assert [request.is_final for request in house.colony.metered] == [False]
    house.colony.trouble = None
    assert final(house).cost_usd == pytest.approx(USD)


def test_counting_tokens_costs_nothing(open_house: Opened, api: Callable[..., Upstream]) -> None:
    upstream = api(whole(input_tokens=5))
    house = at(open_house, upstream)
    said = {"messages": [{"role": "user", "content": "hi"}], "model": OPUS}
    assert status(house.ask(counting(**said))) == 200
    assert asked_of(upstream) == said
    house.contact()
    assert (final(house).cost_usd, set(house.colony.used.values())) == (0.0, {0.0})


# What the API would do for whoever asks


PICTURE = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://pics.example/a.png"}}]}]
SEARCH = [{"type": "web_search_20250305", "name": "web_search"}]


def test_the_api_looks_at_nothing_that_the_agent_may_not_reach(open_house: Opened, api: Callable[..., Upstream]) -> None:
    upstream = api(streamed(STARTS, ENDS))
    house = at(open_house, upstream)
    answer = house.ask(ask(messages=PICTURE))
    assert (status(answer), code(answer)) == (400, "egress_denied")
    assert b"look at pics.example: no rule allows it" in answer
    assert upstream.accepted == 0
    assert house.colony.metered == []
    house.allow("pics.example")
    assert status(house.ask(ask(messages=PICTURE))) == 200
    house.allow("pics.example", effect="deny")
    assert status(house.ask(ask(messages=PICTURE))) == 400


@pytest.mark.parametrize(
    "more", [{"messages": PICTURE}, {"mcp_servers": [{"type": "url", "url": "https://pics.example/mcp", "name": "x"}]}]
)
def test_it_looks_at_nothing_for_counting_either(open_house: Opened, api: Callable[..., Upstream], more: dict[str, Any]) -> None:
    upstream = api(whole(input_tokens=5))
    house = at(open_house, upstream)
    answer = house.ask(counting(model=OPUS, **more))
    assert (status(answer), code(answer), upstream.accepted) == (400, "egress_denied", 0)
    house.allow("pics.example")
    assert status(house.ask(counting(model=OPUS, **more))) == 200


def test_who_runs_no_turn_counts_nothing(open_house: Opened, api: Callable[..., Upstream]) -> None:
    upstream = api(whole(input_tokens=5))
    house = at(open_house, upstream)
    house.colony.trouble = errors.StaleTurn("no turn of the agent runs")
    answer = house.ask(counting(model=OPUS, messages=[]))
    assert (status(answer), code(answer), upstream.accepted) == (403, "egress_denied", 0)


def test_what_is_no_question_is_not_counted(open_house: Opened, api: Callable[..., Upstream]) -> None:
    upstream = api(whole(input_tokens=5))
    house = at(open_house, upstream)
    assert [status(house.ask(post(COUNTING, body=body))) for body in (b"{}", b"nonsense")] == [400, 400]
    large = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 62914560\r\n\r\n" % COUNTING.encode()
    with house.knock() as connection, suppress(BrokenPipeError):  # it says no before it has heard all
        connection.sendall(large + b" " * (60 * 2**20))
    assert upstream.accepted == 0


def test_the_apis_own_tools_are_for_who_may_reach_everything(open_house: Opened, api: Callable[..., Upstream]) -> None:
    house = at(open_house, api(streamed(STARTS, ENDS)))
    house.allow("pypi.org")
    assert b"use tools of its own" in house.ask(ask(tools=SEARCH))
    house.allow("*")
    assert status(house.ask(ask(tools=SEARCH))) == 200
    house.allow("evil.example", effect="deny")
    assert status(house.ask(ask(tools=SEARCH))) == 400


def test_questions_hold_no_more_than_there_is_room_for(open_house: Opened, api: Callable[..., Upstream]) -> None:
    """And what one agent holds keeps no other one out."""
    upstream = api(streamed(STARTS, ENDS))
    house = at(open_house, upstream)
    large = 25 * 2**20
    held = []
    for _ in range(2):
        connection = house.knock()
        with suppress(BrokenPipeError):  # it says no before it has heard all
            connection.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 31457280\r\n\r\n" + b" " * large)
        held.append(connection)
    assert b" 429 " in everything(held[1]).partition(b"\r\n")[0]
    house.user = "rook"
    assert status(house.ask(ask())) == 200
    for connection in held:
        connection.close()
    house.user = "scout"
    until(lambda: status(house.ask(ask())) == 200, "room")
