"""Many clients in one process: each sends its next request as soon as its answer is here."""

from __future__ import annotations

import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.wire import Connection


@dataclass(frozen=True)
class Load:
    """What the clients saw."""

    latencies: list[float]  # seconds
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds


def drive(path: Path, requests: Iterator[bytes], clients: int, seconds: float) -> Load:
    """Keep `clients` connections busy for so long. An answer other than 200 ends it with `RuntimeError`."""
    connections = [Connection(path) for _ in range(clients)]
    try:
        return _drive(connections, requests, seconds)
    finally:
        for connection in connections:
            connection.close()


def _drive(connections: list[Connection], requests: Iterator[bytes], seconds: float) -> Load:
    poll = select.epoll()
    by_number = {connection.socket.fileno(): connection for connection in connections}
    latencies: list[float] = []
    began = perf_counter()
    for number, connection in by_number.items():
        poll.register(number, select.EPOLLIN)
        _send(connection, next(requests))
    busy = len(connections)
    while busy:
        for number, _ in poll.poll(10):
            connection = by_number[number]
            if connection.receive() is None:
                continue
            now = perf_counter()
            latencies.append(now - connection.sent_at)
            if now - began < seconds:
                _send(connection, next(requests))
            else:
                busy -= 1
    poll.close()
    return Load(latencies, perf_counter() - began)


def _send(connection: Connection, message: bytes) -> None:
    connection.sent_at = perf_counter()
    connection.send(message)
