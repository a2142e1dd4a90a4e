"""Agents that wait in the server's long poll, all held by this one process."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import psutil

from bench import wire
from bench.house import House

WAIT_SECONDS = 25
QUIET_SHARE = 0.05  # of one processor over a tenth of a second: the server has settled
GIVE_UP_SECONDS = 10.0


class Crowd:
    """Every agent of the house on a connection of its own, its heartbeat unanswered."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._poll = select.epoll()
        self._waiting: dict[int, tuple[str, wire.Connection]] = {}
        self._connections = {name: wire.Connection(house.socket) for name in house.agents}
        self._ann = wire.Connection(house.socket)
        self._poll.register(self._ann.socket, select.EPOLLIN)
        for name, connection in self._connections.items():
            self._waiting[connection.socket.fileno()] = name, connection
            self._poll.register(connection.socket, select.EPOLLIN)
            self._send_waiting(name)

    def time_to_wake(self, name: str) -> float:
        """Seconds from just before a mention is posted until its agent holds the answer. Raises `RuntimeError` if another one wakes."""
        post = wire.request("POST", "/api/channels/quiet/messages", self._house.ann, {"body": f"@{name} please"})
        is_posted, seconds = False, 0.0
        began = perf_counter()
        self._ann.send(post)
        while not (is_posted and seconds):
            arrived = self._poll.poll(GIVE_UP_SECONDS)
            now = perf_counter()
            if not arrived:
                raise RuntimeError(f"{name} was mentioned and did not wake in {GIVE_UP_SECONDS:.0f} s")
            for number, _ in arrived:
                if number == self._ann.socket.fileno():
                    is_posted |= self._ann.receive() is not None
                elif self._is_woken(number, name):
                    seconds = now - began
        self._clear(name)
        self._send_waiting(name)
        return seconds

    def close(self) -> None:
        self._poll.close()
        for connection in (self._ann, *self._connections.values()):
            connection.close()

    def _is_woken(self, number: int, expected: str) -> bool:
        name, connection = self._waiting[number]
        body = connection.receive()
        if body is None:
            return False
        if json.loads(body)["due"]:
            if name != expected:
                raise RuntimeError(f"{name} woke when {expected} was mentioned")
            return True
        self._send_waiting(name)  # its wait was over
        return False

    def _clear(self, name: str) -> None:
        """Acknowledge the agent's items, so that its next heartbeat waits again."""
        connection, token = self._connections[name], self._house.agents[name]
        items = connection.ask(wire.request("GET", "/api/inbox", token))["items"]
        connection.ask(wire.request("POST", "/api/inbox/ack", token, {"ids": [item["id"] for item in items]}))

    def _send_waiting(self, name: str) -> None:
        fields = {"wait": WAIT_SECONDS, "status": "healthy"}
        self._connections[name].send(wire.request("POST", f"/api/agents/{name}/heartbeat", self._house.agents[name], fields))


@contextmanager
def waiting(house: House, server: psutil.Process) -> Iterator[Crowd]:
    """All agents of the house, once the server has nothing left to do but to let them wait."""
    crowd = Crowd(house)
    try:
        _settle(server)
        yield crowd
    finally:
        crowd.close()


def _settle(server: psutil.Process) -> None:
    processes = [server, *server.children()]
    deadline = time.monotonic() + GIVE_UP_SECONDS
    busy = 1.0
    while busy > QUIET_SHARE and time.monotonic() < deadline:
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        time.sleep(0.1)
        busy = (sum(sum(process.cpu_times()[:2]) for process in processes) - before) / 0.1
