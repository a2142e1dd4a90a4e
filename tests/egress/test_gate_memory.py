"""However much agents ask at once, the gate does not come near the memory that its unit may have: it would be killed, for all of them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from egress import resolver
from egress.limits import MEBIBYTE, Room
from egress.proxy import BUFFER_BYTES, UNBOUNDED
from egress.refusals import TooMany
from tests.egress import house as houses
from tests.egress.house import House, Upstream, echo, everything, status, until
from tests.egress.test_gate_model import post
from tests.server.machine import die_with_parent

UNIT = Path(__file__).parents[2] / "systemd" / "colony-egress.service.j2"
AGENTS = [f"agent{number}" for number in range(8)]


def test_an_agent_holds_so_many_bytes_and_all_together_so_many() -> None:
    room = Room(most=100, per_agent=60, guaranteed=10)
    with room.held("scout") as scout, room.held("rook") as rook, room.held("moth") as moth:
        scout(60)
        with pytest.raises(TooMany, match="your requests hold 60 bytes"):
            scout(1)
        rook(40)
        with pytest.raises(TooMany, match="all agents together"):
            rook(1)
        moth(10)  # which each may
        with pytest.raises(TooMany, match="all agents together"):
            moth(1)
    with room.held("rook") as again:
        again(60)


def test_of_many_connections_most_have_small_buffers_in_the_kernel(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets them grow as long as somebody reads, and counts what is in them when nobody does any more as the gate's memory."""
    made: list[socket.socket] = []
    connect = resolver.connect

    async def kept(*args: Any) -> Any:
        found = await connect(*args)
        made.append(found[1])
        return found

    monkeypatch.setattr(resolver, "connect", kept)
    upstream = house.upstream(echo)
    with ExitStack() as stack:
        for _ in range(UNBOUNDED + 3):
            stack.enter_context(house.tunnel("127.0.0.1", upstream.port))
        with socket.create_connection(("127.0.0.1", upstream.port)) as usual, socket.socket() as small:
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            expected = [_buffer(usual)] * UNBOUNDED + [_buffer(small)] * 3
        assert [_buffer(each) for each in made] == expected
    until(lambda: not house.gate.held)
    with house.tunnel("127.0.0.1", upstream.port):
        assert _buffer(made[-1]) == expected[0], "those that are over count no more"


def _buffer(connection: socket.socket) -> int:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


class Apart:
    """A gate in another process, and the API that takes what it is asked and says nothing."""

    def __init__(self) -> None:
        self.taken = 0  # bytes
        self.api = Upstream(self._take)
        command = [sys.executable, "-m", "tests.egress.house_apart", str(self.api.port), *AGENTS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        assert self.process.stdout
        self.socket = self.process.stdout.readline().strip()

    def _take(self, upstream: Upstream, connection: socket.socket) -> None:
        while arrived := len(connection.recv(MEBIBYTE)):
            self.taken += arrived

    def knock(self, agent: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.bind(f"\0gate-{uuid.uuid4()}:{agent}")
        connection.connect(self.socket)
        return connection

    def most_memory(self) -> int:
        """Bytes that it has had, with the process that reads for it, if both had their most at once."""
        gate = psutil.Process(self.process.pid)
        return sum(_most(each.pid) for each in (gate, *gate.children()))

    def close(self) -> None:
        self.process.communicate()
        self.api.close()


def _most(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


@pytest.fixture
def apart() -> Iterator[Apart]:
    found = Apart()
    yield found
    found.close()


@pytest.mark.parametrize("letter", ["x", "é"])
def test_all_agents_ask_as_much_as_they_can_at_once(apart: Apart, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(houses, "PATIENCE_SECONDS", 60.0)
    text = letter * (31 * MEBIBYTE // len(letter.encode()))
    said = {"model": "claude-test", "max_tokens": 10, "messages": [{"role": "user", "content": text}]}
    asked = post(body=json.dumps(said, ensure_ascii=False).encode())
    answers: list[bytes] = []

    def ask(agent: str) -> None:
        with apart.knock(agent) as connection:
            try:
                connection.sendall(asked)
            except BrokenPipeError:
                answers.append(everything(connection))
            else:
                sent.append(agent)
                until_over.wait(60)

    sent: list[str] = []
    until_over = threading.Event()
    threads = [threading.Thread(target=ask, args=[agent]) for agent in AGENTS]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) + len(sent) == len(AGENTS))
    until(lambda: apart.taken >= len(sent) * len(asked))
    most = apart.most_memory()
    until_over.set()
    for thread in threads:
        thread.join()
    assert sent
    assert {status(answer) for answer in answers} == {429}
    bound = re.search(r"^MemoryMax=(\d+)G$", UNIT.read_text(), re.MULTILINE)
    assert bound
    assert most < int(bound[1]) * 1024 * MEBIBYTE / 2  # the other half is for what the kernel holds for its connections
