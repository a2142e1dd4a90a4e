"""The bridge between a program's standard streams and a unix socket, as a process of its own."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from colony_agent.tool_socket import BRIDGE

COMMAND = [sys.executable, "-I", "-S", str(BRIDGE)]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        listener.settimeout(20)
        yield listener


def start(listener: socket.socket) -> tuple[subprocess.Popen[bytes], socket.socket]:
    process = subprocess.Popen([*COMMAND, listener.getsockname()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    peer = listener.accept()[0]
    peer.settimeout(20)
    return process, peer


def test_it_copies_much_both_ways_at_once(listener: socket.socket) -> None:
    sent = os.urandom(3_000_000)
    process, peer = start(listener)

    def echo() -> None:
        with peer:
            while chunk := peer.recv(65536):
                peer.sendall(chunk)

    threading.Thread(target=echo, daemon=True).start()
    assert process.stdin
    assert process.stdout
    writer = threading.Thread(target=process.stdin.write, args=[sent], daemon=True)
    writer.start()
    heard = process.stdout.read(len(sent))
    assert hashlib.sha256(heard).digest() == hashlib.sha256(sent).digest()
    writer.join()
    process.stdin.close()
    assert process.wait(20) == 0


def test_it_ends_when_the_program_closes_its_side(listener: socket.socket) -> None:
    process, peer = start(listener)
    with process, peer:
        assert process.stdin
        process.stdin.close()
        assert process.wait(20) == 0
        assert peer.recv(1) == b""


def test_it_ends_when_the_tools_hang_up(listener: socket.socket) -> None:
    process, peer = start(listener)
    with process:
        peer.close()
        assert process.wait(20) == 0


def test_without_tools_it_fails_at_once(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, str(tmp_path / "none")], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert done.returncode != 0
