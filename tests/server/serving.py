"""The real server as a process of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from colony.client import Client
from tests.server.machine import die_with_parent, free_port


class Server:
    """`colony-server run` as a process of its own, over a folder in /tmp: a unix socket and a loopback port.

    `url` and `http_url` are its two addresses. Over the socket this process administrates; `client(token_of("ann"))` is ann over TCP.
    """

    def __init__(self, template: Path | None, options: tuple[str, ...] = (), database_url: str = "") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="colony-", dir="/tmp"))  # short: a socket's path has 107 bytes
        self.storage = ["--database", database_url] if database_url else []
        self.home.chmod(0o755)
        self.database = self.home / "colony.db"
        if template:  # else it makes its own, empty
            shutil.copyfile(template, self.database)
        self.socket, self.port, self.options = self.home / "run" / "api.sock", free_port(), options
        self.url, self.http_url = f"unix:{self.socket}", f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers on both addresses."""
        self.process = subprocess.Popen(self.command(), stderr=(self.home / "log").open("ab"), preexec_fn=die_with_parent)
        deadline = time.monotonic() + 20
        while not (self.answers(self.url) and self.answers(self.http_url)):
            assert self.process.poll() is None, f"colony-server ended: {self.log()}"
            assert time.monotonic() < deadline, f"colony-server does not answer: {self.log()}"
            time.sleep(0.02)

    def command(self) -> list[str]:
        script = Path(sys.executable).with_name("colony-server")
        listen = ["--socket", str(self.socket), "--port", str(self.port), "--threads", "64"]
        return [str(script), "--home", str(self.home), *self.storage, "run", *listen, *self.options]

    def answers(self, url: str) -> bool:
        transport = httpx.HTTPTransport(uds=str(self.socket)) if url == self.url else None
        with httpx.Client(base_url=url if transport is None else "http://colony", transport=transport, trust_env=False) as http:
            try:
                return http.get("/healthz").is_success
            except httpx.TransportError:
                return False

    def client(self, token: str | None = None, *, over_socket: bool = False) -> Client:
        """A caller over TCP, or over the unix socket. The caller closes it."""
        return Client(self.url if over_socket else self.http_url, token)

    def processes(self) -> list[psutil.Process]:
        """The server's processes that live."""
        assert self.process
        try:
            master = psutil.Process(self.process.pid)
            return [each for each in (master, *master.children(recursive=True)) if each.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """kill -9, the whole server at once."""
        family = self.processes()
        for each in family:
            each.kill()
        assert self.process
        self.process.wait(10)
        psutil.wait_procs(family, timeout=10)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process
        family = self.processes()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        _, left = psutil.wait_procs(family, timeout=5)
        assert not left, f"colony-server left processes behind: {left}"
        return code

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def close(self) -> None:
        try:
            if self.process and self.process.poll() is None:
                self.stop()
        finally:
            if self.process and self.process.poll() is None:
                self.kill()
            shutil.rmtree(self.home)
