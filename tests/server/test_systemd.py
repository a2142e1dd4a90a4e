"""What systemd hears from the server, through the real socket that it would listen on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import systemd
from server.systemd import Systemd, asked, is_alive
from tests.server.machine import die_with_parent
from tests.server.serving import Server
from tests.server.support import Colony, only_sqlite

SOON = 20.0  # seconds, on a busy machine
SILENCE = 3.0  # seconds in which six signs of life would have come
WATCHDOG_USEC = str(3_000_000)


class Ear:
    """The datagram socket of a systemd."""

    def __init__(self, folder: Path) -> None:
        self.address = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.address))
        self._socket.settimeout(SOON)

    @property
    def environ(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.address), "WATCHDOG_USEC": WATCHDOG_USEC}

    def heard(self, seconds: float = SOON) -> str:
        """The next message; empty if none comes."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return ""

    def forget(self) -> None:
        while self.heard(0.01):
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(tmp_path)
    yield ear
    ear.close()


@pytest.fixture
def service(sqlite_file: Path, ear: Ear) -> Iterator[Server]:
    """The real server, started as by systemd; the test waits for it."""
    server = Server(sqlite_file)
    log = (server.home / "log").open("ab")
    server.process = subprocess.Popen(server.command(), env={**os.environ, **ear.environ}, stderr=log, preexec_fn=die_with_parent)
    try:
        yield server
    finally:
        for process in server.processes():
            process.send_signal(signal.SIGCONT)
        server.close()


def test_it_is_ready_when_it_answers_and_not_before(service: Server, ear: Ear) -> None:
    assert ear.heard().startswith("READY=1\n")
    assert service.answers(service.url)


def test_it_gives_signs_of_life_and_says_when_it_stops(service: Server, ear: Ear) -> None:
    assert ear.heard().startswith("READY=1\n")
    assert [ear.heard(), ear.heard()] == ["WATCHDOG=1", "WATCHDOG=1"]
    service.stop()
    said = []
    while word := ear.heard(0.5):
        said.append(word)
    assert "STOPPING=1" in said
    assert {*said} <= {"STOPPING=1", "WATCHDOG=1"}, "gunicorn says nothing of its own"


def test_a_server_that_hangs_gives_no_sign(service: Server, ear: Ear) -> None:
    assert ear.heard().startswith("READY=1\n")
    _, worker = service.processes()
    worker.send_signal(signal.SIGSTOP)
    ear.forget()
    assert ear.heard(SILENCE) == ""
    worker.send_signal(signal.SIGCONT)
    assert ear.heard() == "WATCHDOG=1"


def test_a_new_process_in_the_place_of_a_dead_one_gives_signs_again(service: Server, ear: Ear) -> None:
    assert ear.heard().startswith("READY=1\n")
    service.processes()[1].kill()
    ear.forget()
    while not ear.heard().startswith("READY=1\n"):
        pass
    assert ear.heard() == "WATCHDOG=1"


def test_without_systemd_nothing_is_said(ear: Ear, server: Server) -> None:
    assert server.answers(server.url)
    assert ear.heard(0.1) == ""


def test_what_systemd_has_set_is_not_passed_on(ear: Ear) -> None:
    environ = ear.environ | {"OTHER": "1"}
    Systemd(environ)
    assert environ == {"OTHER": "1"}


def answering(folder: Path, answer: bytes | None) -> Path:
    """A unix socket at which everyone gets that answer, or waits for one."""
    address = folder / "server.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(address))
    listening.listen()

    def serve() -> None:
        while True:
            caller, _ = listening.accept()
            if answer is not None:
                caller.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return address


@only_sqlite
@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 Service Unavailable\r\n"])
def test_whoever_answers_lives_whatever_the_answer(colony: Colony, tmp_path: Path, answer: bytes) -> None:
    assert is_alive(colony.gate, answering(tmp_path, answer))


@only_sqlite
def test_whoever_does_not_answer_does_not_live(colony: Colony, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd.asked, "__defaults__", (0.2,))
    assert not is_alive(colony.gate, answering(tmp_path, None))
    assert not is_alive(colony.gate, tmp_path / "nobody.sock")
    assert asked(tmp_path / "nobody.sock") is None


@only_sqlite
def test_a_writer_that_hangs_ends_the_signs_and_one_that_refuses_does_not(colony: Colony, tmp_path: Path) -> None:
    address = answering(tmp_path, b"HTTP/1.1 200 OK\r\n")
    in_hand, go_on, alive = threading.Event(), threading.Event(), threading.Event()

    def hang(connection: object) -> None:
        in_hand.set()
        go_on.wait(SOON)

    threads = [threading.Thread(target=lambda: colony.gate.database.write(hang))]
    threads[0].start()
    assert in_hand.wait(SOON)
    threads.append(threading.Thread(target=lambda: alive.set() if is_alive(colony.gate, address) else None))
    threads[1].start()
    assert not alive.wait(0.5)
    go_on.set()
    assert alive.wait(SOON)
    for thread in threads:
        thread.join(SOON)
    colony.gate.database.close()  # from now on every write fails
    assert is_alive(colony.gate, address)
