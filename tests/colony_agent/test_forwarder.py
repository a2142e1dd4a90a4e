"""The forwarder of real sandboxes: the only way out, which harms nothing that it carries, and no trace in the program that it becomes."""

from __future__ import annotations

import hashlib
import http.server
import queue
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from colony.failures import UNREACHABLE
from colony_agent import process
from colony_agent.process import Exit
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import for_home
from colony_agent.settings import Home
from tests.colony_agent.cast import new_mark, running, scout_at, wait_until
from tests.colony_agent.engines import ENGINES
from tests.colony_agent.gates import HttpGate, Serve, Socket, echo

PYTHON = Path(sys.executable).resolve()
CONNECT = "import socket, sys; s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(30)\n"
MEBIBYTE = 2**20


def ignored_signals(status: str) -> set[int]:
    """Those that a process ignores, as its /proc/PID/status says."""
    mask = int(re.search("SigIgn:\\s*([0-9a-f]+)", status)[1], 16)  # type: ignore[index]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


NAMED_SIGNALS = {int(each) for each in signal.Signals}
IGNORED_HERE = {number for number in NAMED_SIGNALS - {signal.SIGPIPE, signal.SIGXFSZ} if signal.getsignal(number) is signal.SIG_IGN}


class Inside:
    """Scout's sandbox with a gate, and what a program in it says."""

    def __init__(self, path: Path, engine: str) -> None:
        self.socket, self.path = path / "gate" / "egress.sock", path / "scout"
        self.socket.parent.mkdir()
        self.home: Home = scout_at(self.path, sandbox=engine, egress=f"unix:{self.socket}")

    def gate(self, serve: Serve) -> Socket:
        return Socket(self.socket, serve)

    def run(self, *argv: str, stdin: bytes = b"") -> tuple[Exit, bytes]:
        said: list[bytes] = []
        ended = process.run(for_home(self.home).confine(argv, {}), stdin, said.append, 60, threading.Event())
        return ended, b"\n".join(said)

    def sh(self, script: str) -> str:
        return self.run("/bin/sh", "-c", f"exec 2>&1\n{script}")[1].decode()

    def python(self, script: str) -> str:
        return self.run("/bin/sh", "-c", 'exec 2>&1; exec "$0" -c "$1"', str(PYTHON), script)[1].decode()


@pytest.fixture(params=ENGINES)
def inside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    yield Inside(tmp_path, request.param)
    assert running(str(tmp_path)) == []


@pytest.fixture
def site() -> Iterator[int]:
    """A web server of the host's that repeats a request's path and body, as a port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.path.encode() + b" " + self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


# No other way out


def test_there_is_no_network_but_the_loopback_of_its_own(inside: Inside, site: int) -> None:
    with inside.gate(echo):
        assert inside.python("import socket; print(socket.if_nameindex())") == "[(1, 'lo')]"
        assert "ConnectionRefused" in inside.python(f"import socket; socket.create_connection(('127.0.0.1', {site}))")
        assert "Network is unreachable" in inside.python("import socket; socket.create_connection(('192.0.2.1', 80), 5)")
        assert "gaierror" in inside.python("import socket; socket.getaddrinfo('example.org', 80)")


def test_git_has_neither_network_nor_gate(inside: Inside) -> None:
    command = for_home(inside.home, keeps_history=True).confine(["/bin/sh", "-c", "ls /run; env | grep -i proxy; cat /proc/net/dev"], {})
    said: list[bytes] = []
    process.run(command, b"", said.append, 20, threading.Event())
    assert [line.split()[0] for line in said[2:]] == [b"lo:"]


def test_without_a_gate_nothing_starts_and_nothing_is_counted(inside: Inside) -> None:
    with pytest.raises(RunnerFailed, match=r"there is no egress gate at .*egress.sock; start it") as failed:
        inside.sh("touch started")
    assert failed.value.failure is UNREACHABLE
    assert not failed.value.failure.counted
    assert not (inside.path / "started").exists()


def test_a_gate_that_has_gone_hangs_up_at_once(inside: Inside) -> None:
    with inside.gate(echo):
        pass
    assert inside.socket.is_socket()
    assert "0 bytes" in inside.python(f"{CONNECT}print(len(s.recv(9)), 'bytes')")


def test_a_gate_that_is_started_anew_is_found_again(inside: Inside) -> None:
    ask = f"{CONNECT}s.sendall(b'hi'); print(s.recv(9), flush=True)\n"
    script = f"{ask}import os, time\nopen('ready', 'w')\nwhile not os.path.exists('go'): time.sleep(0.02)\n{ask}"
    said: list[str] = []
    first = inside.gate(echo)
    turn = threading.Thread(target=lambda: said.append(inside.python(script)))
    turn.start()
    wait_until((inside.path / "ready").exists, 20)
    first.__exit__()
    inside.socket.unlink()
    with inside.gate(echo):
        (inside.path / "go").touch()
        turn.join()
    assert said == ["b'hi'\nb'hi'"]


# Programs find it


def test_programs_reach_allowed_hosts_by_their_usual_settings(inside: Inside, site: int) -> None:
    with HttpGate(inside.socket, hosts={"example.org:80": site, "example.org:8443": site}) as gate:
        assert inside.sh("curl -sS -d hello http://example.org/curl") == "/curl hello"
        fetch = "import urllib.request as u; print(u.urlopen(u.Request('http://example.org/python', b'hello')).read().decode())"
        assert inside.python(fetch) == "/python hello"
        assert inside.sh("curl -sS --proxytunnel -d hello http://example.org:8443/tunnel") == "/tunnel hello"
    assert gate.asked == [
        "POST http://example.org/curl HTTP/1.1",
        "POST http://example.org/python HTTP/1.1",
        "CONNECT example.org:8443 HTTP/1.1",
    ]


def test_other_hosts_are_refused_in_the_gates_words(inside: Inside) -> None:
    with HttpGate(inside.socket) as gate:
        assert inside.sh("curl -sS -o /dev/null -w '%{http_code}' http://denied.example/") == "403"
        assert "403" in inside.sh("curl -sS https://denied.example/")
        assert "Forbidden" in inside.python("import urllib.request as u; u.urlopen('https://denied.example/')")
    assert [line.split()[0] for line in gate.asked] == ["GET", "CONNECT", "CONNECT"]


def test_a_server_in_the_sandbox_is_reached_past_the_gate(inside: Inside) -> None:
    (inside.path / "index.html").write_text("mine")
    with HttpGate(inside.socket) as gate:
        serve = f"{PYTHON} -m http.server 8000 >log 2>&1 & until curl -s http://localhost:8000/; do sleep 0.02; done; kill $!"
        assert inside.sh(serve) == "mine"
    assert gate.asked == []


# What it carries


def test_much_goes_through_unharmed_both_ways_at_once(inside: Inside) -> None:
    script = f"""{CONNECT}
import hashlib, random, threading
sent, chunk = hashlib.sha256(), random.randbytes({MEBIBYTE})
def send():
    for number in range(100):
        part = number.to_bytes(4) + chunk
        sent.update(part)
        s.sendall(part)
    s.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
heard, count = hashlib.sha256(), 0
while data := s.recv(65536):
    heard.update(data)
    count += len(data)
thread.join()
print(count, sent.digest() == heard.digest())
"""
    with inside.gate(echo):
        assert inside.python(script) == f"{100 * (MEBIBYTE + 4)} True"


def test_who_has_said_all_still_hears_the_answer(inside: Inside) -> None:
    def digest(caller: socket.socket) -> None:
        heard = hashlib.sha256()
        while chunk := caller.recv(65536):
            heard.update(chunk)
        caller.sendall(heard.hexdigest().encode())

    with inside.gate(digest):
        said = inside.python(f"{CONNECT}s.sendall(b'x' * 3000000); s.shutdown(socket.SHUT_WR); print(s.makefile().read())")
    assert said == hashlib.sha256(b"x" * 3000000).hexdigest()


def test_who_was_told_all_can_still_speak(inside: Inside) -> None:
    heard: queue.Queue[bytes] = queue.Queue()

    def greet(caller: socket.socket) -> None:
        caller.sendall(b"bye")
        caller.shutdown(socket.SHUT_WR)
        heard.put(caller.makefile("rb").read())

    with inside.gate(greet):
        assert inside.python(f"{CONNECT}print(s.makefile().read()); s.sendall(b'but'); s.close()") == "bye"
        assert heard.get(timeout=20) == b"but"


def test_who_speaks_faster_than_is_heard_has_to_wait(inside: Inside) -> None:
    heard: queue.Queue[int] = queue.Queue()
    go = threading.Event()

    def listen_late(caller: socket.socket) -> None:
        go.wait(30)
        heard.put(len(caller.makefile("rb").read()))

    with inside.gate(listen_late):
        blocked = f"""{CONNECT}
s.settimeout(1)
sent = 0
try:
    while sent < 10**9: sent += s.send(b'x' * 65536)
except TimeoutError:
    print(sent)
"""
        sent = int(inside.python(blocked))
        assert MEBIBYTE / 16 < sent < 100 * MEBIBYTE
        go.set()
        assert heard.get(timeout=20) <= sent


def test_two_hundred_at_once_are_served(inside: Inside) -> None:
    script = """
import socket
many = [socket.create_connection(('127.0.0.1', 3128)) for _ in range(200)]
for number, s in enumerate(many): s.sendall(b'%d\\n' % number * 1000)
for s in reversed(many): s.shutdown(socket.SHUT_WR)
print(sum(s.makefile('rb').read() == b'%d\\n' % number * 1000 for number, s in enumerate(many)))
"""
    with inside.gate(echo):
        assert inside.python(script) == "200"


def test_those_beyond_its_bound_are_served_when_others_have_gone(inside: Inside) -> None:
    script = """
import socket
def ask():
    s = socket.create_connection(('127.0.0.1', 3128))
    s.sendall(b'x')
    return s
many = [ask() for _ in range(450)]
assert all(s.recv(1) for s in many[:400])
many[449].settimeout(0.5)
try:
    print(many[449].recv(1))
except TimeoutError:
    print('waits')
for s in many[:50]: s.close()
many[449].settimeout(30)
print(many[449].recv(1))
"""
    with inside.gate(echo):
        assert inside.python(script).split("\n") == ["waits", "b'x'"]


def test_an_end_that_is_lost_ends_the_other(inside: Inside) -> None:
    over: queue.Queue[bool] = queue.Queue()

    def wait_for_the_end(caller: socket.socket) -> None:
        caller.sendall(b"hi")
        try:
            over.put(caller.recv(9) == b"")
        except ConnectionError:
            over.put(True)

    reset = "s.recv(9); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0'); s.close(); input()"
    with inside.gate(wait_for_the_end):
        inside.python(f"{CONNECT}{reset}")
        assert over.get(timeout=20)


# The program that it becomes


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 128 + signal.SIGKILL), ("kill -15 $$", 128 + signal.SIGTERM)],
)
def test_the_exit_code_is_the_programs(inside: Inside, script: str, code: int) -> None:
    with inside.gate(echo):
        assert inside.run("/bin/sh", "-c", script)[0].returncode == code


def test_streams_are_the_programs_to_the_last_byte(inside: Inside) -> None:
    with inside.gate(echo):
        ended, said = inside.run("/bin/sh", "-c", "cat; echo oops >&2", stdin=bytes(range(256)) * 4096)
    assert said == bytes(range(256)) * 4096
    assert ended.stderr == "oops\n"


def test_a_program_that_is_not_there_is_named(inside: Inside) -> None:
    with inside.gate(echo), pytest.raises(RunnerFailed, match=r"sandbox did not start: (forwarder: )?can't start /no/such: No such file"):
        inside.run("/no/such")


def test_the_program_finds_no_signal_ignored_no_child_and_no_descriptor(inside: Inside) -> None:
    with inside.gate(echo):
        said, descriptors = inside.sh("grep SigIgn /proc/self/status; echo; ls /proc/$$/fd").split("\n\n")
        assert ignored_signals(said) & NAMED_SIGNALS <= IGNORED_HERE, "nohup has its whole family ignore SIGHUP"
        assert descriptors.split() == ["0", "1", "2"]
        assert "ChildProcessError" in inside.python("import os; os.wait()")


def test_what_the_program_sends_to_its_group_does_not_reach_it(inside: Inside) -> None:
    with inside.gate(echo):
        assert inside.sh(f"trap '' TERM; kill 0; {PYTHON} -c \"{CONNECT}s.sendall(b'hi'); print(s.recv(2))\"") == "b'hi'"


def test_a_program_that_is_killed_leaves_no_forwarder(inside: Inside) -> None:
    mark = new_mark()  # in the forwarder's words, too
    names: set[str] = set()

    def kill() -> None:
        wait_until(lambda: "sleep" in {found.name() for found in running(mark)}, 20)
        names.update(found.name() for found in running(mark))
        next(found for found in running(mark) if found.name() == "sleep").kill()

    threading.Thread(target=kill).start()
    with inside.gate(echo):
        assert inside.run("/bin/sleep", mark)[0].returncode == 128 + signal.SIGKILL
    assert {"sleep", PYTHON.name} < names, "the engine's own"
    assert running(mark) == []
