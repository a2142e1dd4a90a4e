"""The server as a process: clients that are slow, and what it asks of its machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from server import process
from tests.server.serving import Server

THREADS = 24
LONG = 30.0  # seconds that a noisy machine may take
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


# Run by another user, who holds a few lines and says which of them the server leaves open.
HOLD = """
import select, socket, sys
lines = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for line in lines:
    line.connect(sys.argv[1])
lines[-1].recv(1)
hung_up = select.select(lines, [], [], 0)[0]
print(len(lines) - len(hung_up))
"""


def callers(server: Server, sends: bytes, stack: ExitStack) -> list[socket.socket]:
    """One over each of its addresses, both of whom have said this."""
    lines = [stack.enter_context(socket.socket(family)) for family in (socket.AF_INET, socket.AF_UNIX)]
    addresses: tuple[tuple[str, int] | str, ...] = (("127.0.0.1", server.port), str(server.socket))
    for line, address in zip(lines, addresses, strict=True):
        line.settimeout(LONG)
        line.connect(address)
        line.sendall(sends)
    return lines


def test_who_sends_half_a_request_is_hung_up_on_and_keeps_nobody_waiting(hasty: Server) -> None:
    with ExitStack() as stack:
        began = time.monotonic()
        lines = [line for half in HALVES.values() for _ in range(2) for line in callers(hasty, half, stack)]
        while time.monotonic() - began < 5:
            assert hasty.answers(hasty.http_url)  # which gives up after five seconds
        for line in lines:
            with suppress(ConnectionError):
                while line.recv(65536):  # it may be told why
                    pass
        assert time.monotonic() - began < 15
    assert "Traceback" not in hasty.log()
    assert "TIMEOUT" not in hasty.log()


def test_half_a_request_in_every_thread_does_not_keep_others_out_for_ever(hasty: Server) -> None:
    with ExitStack() as stack:
        for _ in range(THREADS):
            callers(hasty, HALVES["a line"], stack)
        began = time.monotonic()
        while not hasty.answers(hasty.http_url):
            assert time.monotonic() - began < 15


def test_who_got_its_answer_and_stays_on_the_line_keeps_nobody_waiting(hasty: Server) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            callers(hasty, b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n", stack)
        time.sleep(0.2)
        assert hasty.answers(hasty.http_url)  # within five seconds; ten callers would have held it up for twenty


def test_slow_clients_have_ten_seconds() -> None:
    assert process.SLOW_CLIENT_SECONDS == 10


def test_a_user_who_holds_many_connections_is_hung_up_on_and_keeps_no_one_out(hasty: Server) -> None:
    share, most = THREADS // process.SHARE, 2 * THREADS
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else ["sudo", "-n", "-u", "nobody"]
    command = [*nobody, "/usr/bin/python3", "-I", "-c", HOLD, str(hasty.socket), str(most)]
    held = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", timeout=LONG)
    assert int(held.stdout) == share
    assert hasty.answers(hasty.url)


def test_who_sends_slowly_but_steadily_is_served(hasty: Server) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=15) as line:
        for part in (b"GET /heal", b"thz HTTP/1.1\r\n", b"Host: x\r\nConnection: close\r\n", b"\r\n"):
            line.sendall(part)
            time.sleep(0.5)
        assert b" 200 " in line.recv(65536).splitlines()[0]


@pytest.mark.parametrize(("limits", "soft"), [("64:4096", 2 * THREADS + 256), ("64:100", 100)])
def test_it_takes_the_descriptors_that_its_clients_need(sqlite_file: Path, limits: str, soft: int) -> None:
    server = Special(sqlite_file, "prlimit", f"--nofile={limits}")
    try:
        server.start()
        assert [each.rlimit(psutil.RLIMIT_NOFILE)[0] for each in server.processes()] == [soft, soft]
    finally:
        server.close()


def test_clients_that_never_pause_keep_no_thread_from_others(sqlite_file: Path) -> None:
    server = Server(sqlite_file, ("--threads", "8"))
    over = threading.Event()

    def chat() -> int:
        count = 0
        with httpx.Client(base_url=server.http_url) as client:
            while not over.is_set():
                count += client.get("/healthz").status_code == 200
                over.wait(0.02)
        return count

    try:
        server.start()
        with ThreadPoolExecutor(12) as pool:
            chats = [pool.submit(chat) for _ in range(12)]
            try:
                time.sleep(1)
                for _ in range(5):
                    assert httpx.get(f"{server.http_url}/healthz", timeout=LONG).status_code == 200
            finally:
                over.set()
            assert all(each.result(LONG) > 5 for each in chats)
    finally:
        server.close()
