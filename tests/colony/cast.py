"""A real server, and people who use the `colony` command."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from colony import cli, client, operations
from tests.server.serving import Server

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 20.0


class House(Server):
    """The real server, with shortcuts; whoever runs these tests administrates it by its socket."""

    def call(self, operation: operations.Operation[Any, Any], token: str | None = None, **fields: Any) -> Any:
        with client.Client(self.url, token) as caller:
            return caller.call(operation, operation.request(**fields))

    def join(self, name: str, kind: str = "ape") -> str:
        """A new user's token."""
        self.call(operations.CREATE_USER, username=name, kind=kind)
        return str(self.call(operations.ISSUE_TOKEN, username=name).token)


@dataclass
class Said:
    code: int
    out: str
    err: str


class Shell:
    """Runs the command as somebody: within this process, or as one of its own where signals and pipes matter."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.house, self._monkeypatch, self._capsys = house, monkeypatch, capsys

    def __call__(self, *arguments: str, token: str = "", stdin: bytes = b"", connect: Callable[..., Any] | None = None) -> Said:
        self._monkeypatch.setenv("COLONY_TOKEN", token)
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capsys.readouterr()
        code = cli.main(arguments, connect)
        captured = self._capsys.readouterr()
        return Said(code, captured.out, captured.err)

    def spawn(self, *arguments: str, token: str = "", **more: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # it would hide a missing flush
        return subprocess.Popen([BIN / "colony", *arguments], env={**environ, "COLONY_TOKEN": token}, text=True, **pipes)


class LosesAnswers(httpx.HTTPTransport):
    """A network that delivers each request, but not the answers to those that are numbered in `lost`."""

    def __init__(self, socket: Path, lost: range) -> None:
        super().__init__(uds=str(socket))
        self.lost, self.requests = lost, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        answer = super().handle_request(request)
        if self.requests in self.lost:
            answer.close()
            raise httpx.ReadError("connection reset")
        return answer


def on_terminal(typed: list[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what appears on a terminal where the lines are typed, each after a `: `."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(BIN / "colony", ["colony", *arguments])
    seen, answered = b"", 0
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # so Linux tells that the other end is closed
            break
        seen += piece
        if answered < len(typed) and seen.rstrip(b" ").endswith(b":"):
            time.sleep(0.1)  # the prompt has to turn off the echo first
            os.write(terminal, typed[answered].encode() + b"\n")
            answered += 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), seen.decode()


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def wait_for_call(process: subprocess.Popen[str]) -> None:
    """Until the process has called its server, and a moment more, so that it waits for the answer."""
    wait_until(lambda: psutil.Process(process.pid).net_connections("unix"))
    time.sleep(0.3)


def bodies(house: House, channel: str) -> list[str]:
    return [message.body for message in house.call(operations.READ, channel=channel).messages]
