"""The server as a process: clients that are slow, and what it asks of its machine."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from server import process
from tests.server.support import Server

THREADS = 8
HASTY = """
import struct
from server import cli, process
process._SLOW_CLIENT = struct.pack("ll", 1, 0)
cli.main()
"""
HALVES = {
    "a line": b"GET /healthz HT",
    "headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
    "a body": b"POST /api/channels/general/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "a chunk": b"POST /api/channels/general/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{",
}


class Special(Server):
    """The real server, started another way."""

    def __init__(self, template: Path, *begin: str) -> None:
        super().__init__(template, ("--threads", str(THREADS)))
        self._begin = begin

    def command(self) -> list[str]:
        script, *arguments = super().command()
        return [*self._begin, *([] if HASTY in self._begin else [script]), *arguments]


@pytest.fixture(scope="module")
def hasty(sqlite_file: Path) -> Iterator[Server]:
    """A server that waits for slow clients only one second."""
    server = Special(sqlite_file, sys.executable, "-c", HASTY)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_who_sends_half_a_request_holds_no_thread_for_ever(hasty: Server, half: bytes, over: str) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(socket.socket(socket.AF_INET if over == "tcp" else socket.AF_UNIX)) for _ in range(THREADS)]
        for line in lines:
            line.settimeout(15)
            line.connect(("127.0.0.1", hasty.port) if over == "tcp" else str(hasty.socket))
            line.sendall(half)
        assert hasty.answers(hasty.http_url)
        for line in lines:
            with suppress(ConnectionError):
                while line.recv(65536):  # it may be told why
                    pass
    assert "Traceback" not in hasty.log()


def test_slow_clients_have_ten_seconds() -> None:
    assert process.SLOW_CLIENT_SECONDS == 10


def test_who_sends_slowly_but_steadily_is_served(hasty: Server) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=15) as line:
        for part in (b"GET /heal", b"thz HTTP/1.1\r\n", b"Host: x\r\nConnection: close\r\n", b"\r\n"):
            line.sendall(part)
            time.sleep(0.5)
        assert b" 200 " in line.recv(65536).splitlines()[0]


@pytest.mark.parametrize(("limits", "soft"), [("64:4096", 2 * THREADS + 256), ("64:100", 100), ("3000:4096", 3000)])
def test_it_takes_the_descriptors_that_its_clients_need(sqlite_file: Path, limits: str, soft: int) -> None:
    server = Special(sqlite_file, "prlimit", f"--nofile={limits}")
    try:
        server.start()
        assert [each.rlimit(psutil.RLIMIT_NOFILE)[0] for each in server.processes()] == [soft, soft]
    finally:
        server.close()
