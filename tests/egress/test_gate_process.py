"""`colony-egress run` as it is: beside the real server, told by systemd's ways, ended by a signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from colony import operations, schema
from server.database import open_database, sqlite_url
from server.models import base
from server.models import user as users
from tests.egress.house import Upstream, everything, status, until
from tests.egress.test_gate_caller import ask_as
from tests.egress.test_gate_model import post
from tests.egress.test_gate_proxy import get
from tests.server.machine import NOBODY, die_with_parent
from tests.server.serving import Server

KEY = "sk-ant-very-secret"


class Process:
    """The gate of a colony in which the Linux user nobody is the agent moth."""

    def __init__(self, server: Server, upstream: Upstream) -> None:
        self.server, self.upstream = server, upstream
        self.socket = server.home / "egress.sock"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(server.home / "notify.sock"))
        self.told.settimeout(20)
        (server.home / "ANTHROPIC_API_KEY").write_text(KEY)
        (server.home / "egress.toml").write_text(
            f'socket = "{self.socket}"\nserver = "{server.url}"\nmodel_url = "http://127.0.0.1:{upstream.port}"\n'
        )
        database = open_database(sqlite_url(server.database))
        request = schema.CreateUser(username="moth", kind="agent", linux_user="nobody")
        database.write(lambda connection: users.create(connection, request, base.now()))
        database.close()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.server.home / "notify.sock"),
            "WATCHDOG_USEC": "400000",
            "CREDENTIALS_DIRECTORY": str(self.server.home),
        }
        command = [sys.executable, "-m", "egress", "run", "--settings", str(self.server.home / "egress.toml")]
        log = (self.server.home / "gate.log").open("ab")
        self.process = subprocess.Popen(command, env=environ, stderr=log, preexec_fn=die_with_parent)
        assert self.hear().startswith(b"READY=1")

    def hear(self) -> bytes:
        return self.told.recv(4096)

    def log(self) -> str:
        return (self.server.home / "gate.log").read_text()

    def ask(self, message: bytes) -> bytes:
        return ask_as(NOBODY, self, message)  # type: ignore[arg-type]  # it has a socket

    def allow(self, port: int) -> None:
        with self.server.client(over_socket=True) as admin:
            admin.call(operations.SET_EGRESS, schema.SetEgress(agent="moth", effect="allow", host="127.0.0.1", ports=[port]))

    def begin_turn(self) -> schema.Turn:
        with self.server.client(over_socket=True) as admin:
            admin.call(operations.SET_STATUS, schema.SetStatus(agent="moth", status="healthy"))
            token = admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="moth")).token
            admin.call(operations.POST, schema.PostMessage(channel="general", body="@moth hello"))
        with self.server.client(token) as moth:
            turn = moth.call(operations.CLAIM, schema.ClaimTurn()).turn
        assert turn
        return turn

    def contacts(self) -> list[schema.EgressEntry]:
        with self.server.client(over_socket=True) as admin:
            return admin.call(operations.EGRESS_LOG, schema.ReadEgressLog(agent="moth")).contacts

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def gate(server: Server) -> Iterator[Process]:
    upstream = Upstream()
    gate = Process(server, upstream)
    gate.start()
    yield gate
    if gate.process and gate.process.poll() is None:
        gate.process.kill()
        gate.process.wait()
    upstream.close()
    gate.told.close()


def test_a_rule_opens_the_way_and_what_went_there_is_known(gate: Process) -> None:
    port = gate.upstream.port
    until(lambda: b"no rule allows" in gate.ask(get(port)), "the server's rules")
    gate.allow(port)
    until(lambda: status(gate.ask(get(port))) == 200, "the new rule")
    found = until(lambda: [each for each in gate.contacts() if each.verdict == "allowed"], "the contact")[0]
    assert (found.agent, found.linux_user, found.host, found.port, found.kind) == ("moth", "nobody", "127.0.0.1", port, "http")
    assert found.received_bytes > 0
    assert any(each.verdict == "denied" for each in gate.contacts())


def test_systemd_hears_that_it_lives_and_that_it_stops(gate: Process) -> None:
    assert gate.hear() == b"WATCHDOG=1"
    assert gate.hear() == b"WATCHDOG=1"
    assert gate.stop() == 0
    heard = [gate.hear()]
    while heard[-1] != b"STOPPING=1":
        heard.append(gate.hear())
    assert not gate.socket.exists()


def test_what_is_open_at_the_end_is_closed_and_known(gate: Process) -> None:
    until(lambda: b"no rule allows" in gate.ask(get(gate.upstream.port)), "the server's rules")
    waits = socket.create_server(("127.0.0.1", 0))
    gate.allow(waits.getsockname()[1])
    ask = [
        "/usr/bin/python3",
        "-I",
        "-c",
        f"""
import socket
line = socket.socket(socket.AF_UNIX)
line.connect({str(gate.socket)!r})
line.sendall(b"CONNECT 127.0.0.1:{waits.getsockname()[1]} HTTP/1.1\\r\\n\\r\\n")
while line.recv(100): pass
""",
    ]
    until(lambda: status(gate.ask(f"CONNECT 127.0.0.1:{waits.getsockname()[1]} HTTP/1.1\r\nX: {'y' * 17000}\r\n\r\n".encode())) == 413)
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    if os.geteuid():
        ask = ["sudo", "-n", "-u", "nobody", *ask]
    until(lambda: status(gate.ask(f"GET http://127.0.0.1:{waits.getsockname()[1]}/ HTTP/1.0\r\nX\r\n\r\n".encode())) == 400)
    holding = subprocess.Popen(ask, cwd="/", **as_nobody)  # type: ignore[call-overload]
    reached, _ = waits.accept()
    assert gate.stop() == 0
    assert everything(reached) == b""
    assert holding.wait(20) in (0, 1)
    found = [each for each in gate.contacts() if each.port == waits.getsockname()[1]]
    assert [(each.verdict, each.reason) for each in found] == [("failed", "the gate was stopped")]
    reached.close()
    waits.close()


def test_a_killed_gate_begins_again_at_its_socket_and_two_do_not_share_it(gate: Process) -> None:
    assert gate.process
    second = [sys.executable, "-m", "egress", "run", "--settings", str(gate.server.home / "egress.toml")]
    refused = subprocess.run(second, capture_output=True, text=True, check=False, timeout=20)
    assert (refused.returncode, "another gate answers" in refused.stderr) == (8, True)
    gate.process.kill()
    gate.process.wait()
    assert gate.socket.exists()
    while not gate.hear().startswith(b"WATCHDOG"):
        pass
    gate.told.setblocking(False)
    while True:
        try:
            gate.hear()
        except BlockingIOError:
            break
    gate.told.settimeout(20)
    gate.start()
    assert status(gate.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")) == 403


def test_it_opens_without_its_server_and_lets_nothing_out(gate: Process) -> None:
    assert gate.stop() == 0
    while gate.hear() != b"STOPPING=1":
        pass
    gate.server.stop()
    gate.start()
    assert b"has not heard any rules" in gate.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
    gate.server.start()
    until(lambda: b"no rule allows" in gate.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n"), "the server's rules")
    until(lambda: [each for each in gate.contacts() if "has not heard" in each.reason], "what was denied meanwhile")


def test_the_model_gets_the_key_and_the_process_shows_it_nowhere(gate: Process) -> None:
    until(lambda: b"no rule allows" in gate.ask(get(gate.upstream.port)), "the server's rules")
    assert b"no turn of the agent runs" in gate.ask(post())
    gate.begin_turn()
    assert status(gate.ask(post())) == 200
    assert f"x-api-key: {KEY}".encode() in gate.upstream.heard[-1].lower()
    assert gate.process
    process = psutil.Process(gate.process.pid)
    assert KEY not in " ".join(process.cmdline())
    assert KEY not in " ".join(process.environ().values())
    assert KEY not in gate.log()


def test_an_idle_gate_is_small(gate: Process) -> None:
    assert gate.process
    assert psutil.Process(gate.process.pid).memory_info().rss < 64 * 2**20
