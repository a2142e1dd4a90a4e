"""What the egress gate costs: throughput and latency through it, each beside the same without it, and its memory at rest."""

from __future__ import annotations

import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import memory
from bench.figures import Figure, Plan, milliseconds, quantile
from bench.memory import MEBIBYTE
from bench.processes import running

TUNNELS = 200
LOSS_BUDGET = 0.10  # of the throughput without a gate
ADDED_BUDGET_SECONDS = 0.002
RESIDENT_BUDGET = 40 * MEBIBYTE
SETTLE_SECONDS = 2.0
READ_BYTES = 256 * 1024

Connect = Callable[[], socket.socket]


def measure(plan: Plan) -> Iterator[Figure]:
    with _stage(plan.folder) as (port, path):

        def direct() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port))

        def through() -> socket.socket:
            return _tunnel(path, port)

        yield _throughput(direct, through, plan.fewer(8, 2) * MEBIBYTE, plan.fewer(15, 3))
        yield _latency(port, path, plan.fewer(2000, 300))
    yield _at_rest(plan.folder)


def _throughput(direct: Connect, through: Connect, size: int, rounds: int) -> Figure:
    """In turns, so that what else the machine does meets both."""
    found = [(_rate(direct, size), _rate(through, size)) for _ in range(rounds)]
    without, gated = (statistics.median(each) for each in zip(*found, strict=True))
    loss = 1 - statistics.median(ours / theirs for theirs, ours in found)
    return Figure(
        f"{TUNNELS} tunnels through the egress gate at once: throughput",
        f"{gated / MEBIBYTE:,.0f} MB/s = {1 - loss:.2f} × direct",
        f"≥ {1 - LOSS_BUDGET:.1f} × direct",
        loss <= LOSS_BUDGET,
        f"direct over the loopback {without / MEBIBYTE:,.0f} MB/s",
        {"bytes_per_second": gated, "direct_bytes_per_second": without, "loss": loss},
    )


def _rate(connect: Connect, size: int) -> float:
    """Bytes per second of all connections together, once all of them are open."""
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        connections = [stack.enter_context(connect()) for _ in range(TUNNELS)]
        for each in connections:
            each.setblocking(False)
            ready.register(each, selectors.EVENT_READ)
        buffer = bytearray(READ_BYTES)
        began, left = time.perf_counter(), TUNNELS * size
        for each in connections:
            each.sendall(size.to_bytes(8, "big"))
        while left:
            for key, _ in ready.select():
                count = key.fileobj.recv_into(buffer)  # type: ignore[union-attr]
                if not count:
                    raise RuntimeError("a connection ended early")
                left -= count
        return TUNNELS * size / (time.perf_counter() - began)


def _latency(port: int, path: Path, requests: int) -> Figure:
    ask = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    ask_gate = ask.replace(b"GET /", f"GET http://127.0.0.1:{port}/".encode())
    direct, gated = [], []
    for _ in range(requests):
        direct.append(_asked(lambda: socket.create_connection(("127.0.0.1", port)), ask))
        gated.append(_asked(lambda: _knock(path), ask_gate))
    added = quantile(gated, 0.5) - quantile(direct, 0.5)
    return Figure(
        "a small request through the egress gate, p50 / p99",
        f"{milliseconds(gated)} ms = {added * 1e3:.2f} ms above direct",
        f"p50 ≤ {ADDED_BUDGET_SECONDS * 1e3:.0f} ms above direct",
        added <= ADDED_BUDGET_SECONDS,
        f"direct {milliseconds(direct)} ms",
        {"p50_seconds": quantile(gated, 0.5), "direct_p50_seconds": quantile(direct, 0.5)},
    )


def _asked(connect: Connect, ask: bytes) -> float:
    began = time.perf_counter()
    with connect() as connection:
        connection.sendall(ask)
        answer = b""
        while arrived := connection.recv(4096):
            answer += arrived
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:200].decode(errors="replace"))
    return time.perf_counter() - began


def _at_rest(folder: Path) -> Figure:
    """The real process; that its server is away is no matter of memory."""
    settings, path = folder / "egress.toml", folder / "rest.sock"
    settings.write_text(f'socket = "{path}"\nserver = "unix:{folder}/none.sock"\nmodel_url = "https://api.anthropic.com"\n')
    argv: list[str | Path] = [sys.executable, "-m", "egress", "run", "--settings", settings]
    with running(argv, folder / "rest.log", ready=path.exists) as process:
        time.sleep(SETTLE_SECONDS)
        found = memory.of(process.pid)
    return Figure(
        "the egress gate at rest: RSS",
        f"{found.resident / MEBIBYTE:.1f} MB",
        f"≤ {RESIDENT_BUDGET // MEBIBYTE} MB",
        found.resident <= RESIDENT_BUDGET,
        values={"resident_bytes": found.resident, "unique_bytes": found.unique},
    )


@contextmanager
def _stage(folder: Path) -> Iterator[tuple[int, Path]]:
    """An upstream's port, and the socket of a gate that lets everybody go there."""
    said, path = folder / "upstream.port", folder / "bench.sock"
    upstream: list[str | Path] = [sys.executable, "-m", "bench.egress_stage", "upstream", said]
    with running(upstream, folder / "upstream.log", ready=lambda: said.exists() and said.read_text().endswith("\n")):
        port = int(said.read_text())
        gate: list[str | Path] = [sys.executable, "-m", "bench.egress_stage", "gate", path, str(port)]
        with running(gate, folder / "gate.log", ready=path.exists):
            yield port, path


def _knock(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def _tunnel(path: Path, port: int) -> socket.socket:
    connection = _knock(path)
    connection.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        arrived = connection.recv(4096)
        if not arrived:
            raise RuntimeError(answer.decode(errors="replace"))
        answer += arrived
    return connection
