"""Nobody keeps others out or waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from colony import operations
from egress import client, limits, meter
from egress.gate import KNOCKS_PER_ROUND, TURNED_AWAY, TURNED_AWAY_PER_UID, Gate
from egress.limits import GUARANTEED, PIECES, Limits, Rounds, Throttle
from egress.pipes import KEPT
from egress.refusals import TooMany
from egress.settings import Bounds
from egress.systemd import answers
from tests.egress.house import Clock, House, Upstream, answering, code, echo, everything, status, until
from tests.egress.test_gate_metering import ENDS, STARTS, ask, at, streamed
from tests.egress.test_gate_proxy import get


def test_an_agent_holds_so_many_connections_and_others_none_the_fewer(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(connections_per_agent=3))
    upstream = house.upstream(echo)
    house.allow("127.0.0.1", upstream.port, user="rook")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(house.tunnel("127.0.0.1", upstream.port))
        answer = house.ask(get(upstream.port))
        assert (status(answer), code(answer)) == (429, "limit_reached")
        house.user = "rook"
        stack.enter_context(house.tunnel("127.0.0.1", upstream.port))
    house.user = "scout"
    until(lambda: len(house.colony.ended) >= 4)
    house.tunnel("127.0.0.1", upstream.port).close()


def test_what_is_refused_before_it_names_a_host_is_noted_and_counted(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(requests_per_second=20))
    answers = [status(house.ask(b"nonsense\r\n\r\n")) for _ in range(60)]
    assert set(answers) == {400, 429}
    until(lambda: sum(({contact.id: contact.times for contact in house.colony.ended}).values()) == 60)
    last = {contact.id: contact for contact in house.colony.ended}
    assert {(contact.host, contact.port, contact.verdict) for contact in last.values()} == {("", 0, "denied")}
    assert {contact.reason for contact in last.values()} == {
        "the first line is no request of HTTP/1.0 or 1.1",
        "you ask more often than 20 times a second",
    }


def test_a_crowd_leaves_everybody_a_few_connections() -> None:
    held = Limits(Bounds(connections_per_agent=50, connections=20, requests_per_second=1000))
    with ExitStack() as stack:
        for number in range(20):
            stack.enter_context(held.seat(f"agent{number % 2}"))
        with pytest.raises(TooMany, match="all agents"):
            stack.enter_context(held.seat("agent0"))
        for _ in range(GUARANTEED):
            stack.enter_context(held.seat("late"))
        with pytest.raises(TooMany, match="all agents"):
            stack.enter_context(held.seat("late"))
    assert held.held == 0


def test_requests_have_a_rate_and_short_bursts_are_fine() -> None:
    clock = Clock()
    held = Limits(Bounds(requests_per_second=5), clock)

    def ask(agent: str) -> bool:
        try:
            with held.seat(agent):
                return True
        except TooMany:
            return False

    assert sum(ask("scout") for _ in range(100)) == 10
    assert ask("rook")
    clock.now += 1
    assert sum(ask("scout") for _ in range(100)) == 5
    clock.now += 3600
    assert sum(ask("scout") for _ in range(100)) == 10
    clock.now += 3600
    assert sum(ask(f"agent{number}") for number in range(limits.REMEMBERED + 10)) == limits.REMEMBERED + 10


async def worked(rounds: Rounds, agents: Sequence[str], seconds: float = 0.05) -> Counter[str]:
    """How often each could work that always has something to do."""
    done: Counter[str] = Counter()

    async def work(agent: str) -> None:
        while True:
            await rounds.mine(agent)
            done[agent] += 1

    tasks = [asyncio.create_task(work(agent)) for agent in agents]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done


def test_an_agent_with_many_connections_has_no_more_rounds_than_one_with_one() -> None:
    done = asyncio.run(worked(Rounds(), [*["scout"] * 60, "rook"]))
    assert done["rook"] > 100
    assert done["scout"] <= PIECES * (done["rook"] + 1)


def test_who_leaves_while_it_waits_for_a_round_keeps_nobody_waiting() -> None:
    async def go() -> Counter[str]:
        rounds = Rounds()
        await worked(rounds, ["scout"] * 60, 0.01)
        return await worked(rounds, ["scout"])

    assert asyncio.run(go())["scout"] > 100


def test_one_line_a_second_is_logged_of_an_agents_refusals() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    assert [throttle.passes("scout") for _ in range(5)] == [0, None, None, None, None]
    assert throttle.passes("rook") == 0
    clock.now += 1
    assert [throttle.passes("scout") for _ in range(2)] == [4, None]


def test_a_denial_is_logged_without_what_was_asked(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(20):
        house.ask(b"GET http://pypi.org/secret-path HTTP/1.1\r\nHost: pypi.org\r\nX-Key: hush\r\n\r\n")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("egress")]
    assert 1 <= len(lines) <= 3
    assert "user=scout" in lines[0]
    assert not any("secret-path" in line or "hush" in line for line in lines)


def test_who_knocks_without_a_pause_keeps_nobody_waiting(open_house: Callable[..., House]) -> None:
    served_after: list[int] = []

    class Crowded(socket.socket):
        """One at whose door there is always somebody."""

        knocks = 0

        def accept(self) -> tuple[socket.socket, Any]:
            self.knocks += 1
            if served_after or self.knocks > 10_000:
                raise BlockingIOError
            return (first if self.knocks == 1 else socket.socket(socket.AF_UNIX)), None

    house = open_house()
    first, door = house.knock(), Crowded(socket.AF_UNIX)

    def identify(connection: socket.socket) -> None:
        served_after.append(door.knocks)

    async def serve() -> None:
        gate = Gate(house.bounds, house.policy, house._proxy, house.ledger, identify, lambda connection: 1000)
        with suppress(TimeoutError):
            await asyncio.wait_for(gate.serve(door), 0.5)

    door.setblocking(False)
    asyncio.run(serve())
    door.close()
    assert served_after[0] <= KNOCKS_PER_ROUND


def test_who_knocks_very_often_is_hung_up_on_unheard(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(requests_per_second=1))

    def answer() -> bytes:
        with house.knock() as connection:
            with suppress(BrokenPipeError):
                connection.sendall(get(1))
            return everything(connection)

    answers = [answer() for _ in range(40)]
    assert sum(map(bool, answers)) < 20
    assert answers[-1] == b""
    house.user = "rook"
    assert status(house.ask(get(1))) == 403


def test_a_crowd_of_slow_heads_holds_nobody_else_up(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(head_seconds=5, connections_per_agent=40, connections=40))
    upstream = house.upstream(user="rook")
    with ExitStack() as stack:
        for _ in range(60):
            slow = stack.enter_context(house.knock())
            with suppress(OSError):  # who is too many may have been hung up on
                slow.sendall(b"GET http://")
        house.user = "rook"
        assert status(house.ask(get(upstream.port))) == 200


def test_a_name_server_that_is_silent_holds_only_its_askers_up(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(connect_seconds=1, connections_per_agent=64))
    silence = threading.Event()
    patiently = house._look_up

    def look_up(host: str) -> list[str]:
        if host == "slow.example":
            silence.wait(5)
        return patiently(host)

    house._proxy._names._resolve = look_up
    house.allow("slow.example")
    upstream = house.upstream(user="rook")
    house.allow("quick.example", upstream.port, user="rook")
    house.names["quick.example"] = [["127.0.0.1"]]
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(house.knock()).sendall(b"CONNECT slow.example:443 HTTP/1.1\r\n\r\n")
        house.user = "rook"
        host = f"quick.example:{upstream.port}"
        assert status(house.ask(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())) == 200
        house.user = "scout"
        answer = house.ask(b"CONNECT slow.example:443 HTTP/1.1\r\n\r\n")
        assert (status(answer), code(answer)) == (504, "egress_timeout")
    silence.set()


def test_a_server_that_is_slow_to_book_holds_only_its_askers_up(open_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "BOOKING_SECONDS", 2.0)
    upstream, served = Upstream(answering(streamed(STARTS, ENDS))), threading.Event()
    house = at(open_house, upstream)
    house.upstreams.append(upstream)
    at_once, waiting = house.colony.call, list[str]()

    def call(operation: object, request: Any) -> Any:
        if operation is operations.METER and request.linux_user == "scout" and not request.is_final:
            waiting.append(request.id)
            served.wait(30)
        return at_once(operation, request)

    monkeypatch.setattr(house.colony, "call", call)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(house.knock()).sendall(ask())
        until(lambda: len(waiting) == meter.PER_AGENT, "the first questions")
        house.user = "rook"
        assert status(house.ask(ask())) == 200
        house.user = "scout"
        answer = house.ask(ask())
        assert (status(answer), code(answer)) == (503, "egress_blind")
        assert b"ask again" in answer
        assert len(waiting) == meter.PER_AGENT  # those that nobody waits for any more hold their seats
        served.set()
    assert status(house.ask(ask())) == 200


def test_a_crowd_of_strangers_holds_no_agent_up(house: House) -> None:
    upstream = house.upstream()
    house.user = "stranger"
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(house.knock())
        house.user = "scout"
        assert status(house.ask(get(upstream.port))) == 200


def test_the_gate_hears_itself_while_strangers_neither_listen_nor_hang_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FAREWELL_SECONDS", 60.0)  # as if they came back at once
    with ExitStack() as stack:
        for number in range(200):
            house.user = f"stranger{number}"
            stack.enter_context(house.knock())
        until(lambda: house.gate.held == TURNED_AWAY, "the places for those who are turned away are taken")
        assert asyncio.run(answers(house.socket))


def test_one_stranger_does_not_take_the_answer_from_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FAREWELL_SECONDS", 60.0)
    house.user = "stranger"
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(house.knock())
        until(lambda: house.gate.held == TURNED_AWAY_PER_UID, "the stranger's places are taken")
        house.user = "another"
        assert code(house.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")) == "egress_stranger"


def test_nothing_is_left_open_however_connections_end(house: House) -> None:
    def hang_up(upstream: Upstream, connection: socket.socket) -> None:
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset

    upstream, rude = house.upstream(echo), house.upstream(hang_up)

    def all_ways() -> None:
        for port in (upstream.port, rude.port):
            with house.tunnel("127.0.0.1", port) as tunnel:
                tunnel.sendall(b"x" * 100_000)
            house.ask(get(port))
            with house.knock() as connection:
                connection.sendall(get(port, extra="Content-Length: 10\r\n", method="POST"))
        house.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
        house.ask(b"nonsense\r\n\r\n")
        house.knock().close()

    all_ways()
    until(lambda: not house.gate.held)
    before = gate_files(house)
    for _ in range(10):
        all_ways()
    until(lambda: not house.gate.held)
    until(lambda: gate_files(house) <= before + 2 * KEPT)


def gate_files(house: House) -> int:
    """Open files of this process but those of the upstreams, which have threads of their own."""
    names = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")]
    return len([name for name in names if name.startswith(("socket:", "pipe:"))]) - sum(
        connection.fileno() >= 0 for upstream in house.upstreams for connection in upstream.connections
    )
