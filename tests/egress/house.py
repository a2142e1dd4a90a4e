"""A gate in this process, on a real socket, with upstreams that say what a test wants and keep what they heard."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from colony import errors, operations, schema
from egress import service
from egress.gate import Gate
from egress.ledger import Ledger
from egress.meter import Meter
from egress.model import Endpoint
from egress.policy import Decide, Policy
from egress.prices import Prices
from egress.proxy import Proxy
from egress.resolver import Resolver
from egress.settings import Bounds, Model
from egress.vault import Vault

T = TypeVar("T")
PATIENCE_SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def until(is_so: Callable[[], T | None], what: str = "what was expected") -> T:
    """What `is_so` says, once that is something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.005)
    return found


class Colony:
    """Stands in for the server's end: keeps contacts and what is metered, or is away. A turn may cost `allowed_usd`."""

    def __init__(self) -> None:
        self.contacts: list[schema.Contact] = []
        self.metered: list[schema.Meter] = []
        self.allowed_usd = 1e6
        self.trouble: Exception | None = None
        self.batches: list[int] = []

    def call(self, operation: object, request: Any) -> Any:
        if self.trouble:
            raise self.trouble
        if operation is operations.METER:
            return self._meter(request)
        assert operation is operations.RECORD_EGRESS
        self.batches.append(len(request.contacts))
        self.contacts += request.contacts
        return schema.EgressRecorded(recorded=len(request.contacts))

    def _meter(self, request: schema.Meter) -> schema.Metered:
        left_usd = self.allowed_usd - sum({**self.used, request.id: request.cost_usd}.values())
        if left_usd < -1e-9 and not request.is_final:
            raise errors.BudgetSpent(f"this turn may cost ${self.allowed_usd}")
        self.metered.append(request)
        return schema.Metered(turn_id=1, attempt=1, left_usd=left_usd)

    @property
    def ended(self) -> list[schema.Contact]:
        return [contact for contact in self.contacts if not contact.is_open]

    @property
    def used(self) -> dict[str, float]:
        """Dollars, by the question's id, as they were told last."""
        return {request.id: request.cost_usd for request in self.metered}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Upstream:
    """Listens on the loopback; each connection is `handle`d in a thread. `heard` holds what came, by connection."""

    def __init__(self, handle: Callable[[Upstream, socket.socket], None] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.heard: list[bytes] = []
        self.accepted = 0
        self._handle, self._tls = handle or answering(OK), tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listening.getsockname()[1])
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            self.connections.append(connection)
            threading.Thread(target=self._attend, args=[connection], daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as spoken:
                self._handle(self, spoken)
        except OSError:
            pass

    def close(self) -> None:
        for each in (self._listening, *self.connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def answering(message: bytes) -> Callable[[Upstream, socket.socket], None]:
    """Hears one request with a body of Content-Length or in chunks, says this, and hangs up."""

    def handle(upstream: Upstream, connection: socket.socket) -> None:
        upstream.heard.append(hear(connection))
        connection.sendall(message)

    return handle


def hear(connection: socket.socket) -> bytes:
    """One whole request."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += _more(connection)
    head, _, body = heard.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += _more(connection)
        if line.startswith(b"transfer-encoding:"):
            while not body.endswith(b"0\r\n\r\n"):
                body += _more(connection)
    return head + b"\r\n\r\n" + body


def _more(connection: socket.socket) -> bytes:
    arrived = connection.recv(65536)
    if not arrived:
        raise ConnectionError("hung up")
    return arrived


def echo(upstream: Upstream, connection: socket.socket) -> None:
    while arrived := connection.recv(65536):
        connection.sendall(arrived)


class House:
    """The gate, as scout knocks at it unless `user` is said to be another.

    `allow` and `deny` set rules; `names` says which addresses each look-up of a name gives, the last one for ever.
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        model: Model | None = None,
        tls: ssl.SSLContext | None = None,
        decide: Decide | None = None,
        identify: Callable[[socket.socket], str | None] | None = None,
        hears_rules: bool = True,
        model_fields: tuple[str, ...] = (),
    ) -> None:
        self.bounds = bounds or Bounds()
        self.folder = Path(tempfile.mkdtemp(prefix="gate-", dir="/tmp"))  # short: a socket's path has 107 bytes
        self.folder.chmod(0o755)
        self.socket = self.folder / "egress.sock"
        self.colony, self.clock = Colony(), Clock()
        self.user: str | None = "scout"
        self.names: dict[str, list[list[str]]] = {}
        self.looked_up: list[str] = []
        self.rules: dict[str, list[schema.EgressRule]] = {"scout": [], "rook": []}
        self._version = 0
        self.policy = Policy(self.bounds.away_seconds, clock=self.clock, **({"decide": decide} if decide else {}))
        self.vault = Vault(self.bounds.away_seconds, self.folder, self.clock)
        self.ledger = Ledger(self.colony, self.bounds.contacts, every_seconds=0.01)  # type: ignore[arg-type]
        self.meter = Meter(self.colony, Prices(), self.bounds.contacts)  # type: ignore[arg-type]
        self._model, self._tls = model or Model("http://127.0.0.1:1"), tls
        self._identify, self._model_fields = identify or _said_user, model_fields
        self.upstreams: list[Upstream] = []
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        if hears_rules:
            self.hear()
        self.ledger.start()
        self.meter.start()
        self._thread.start()
        assert self._is_open.wait(PATIENCE_SECONDS)

    async def _serve(self) -> None:
        names = Resolver(self.bounds.connect_seconds, self._look_up)
        endpoint = Endpoint(self._model, self.bounds, names, self._tls)
        policy, vault = self.policy, self.vault
        self._proxy = Proxy(
            self.bounds, policy, vault, self.ledger, self.meter, names, lambda user: endpoint, self._tls, self._model_fields
        )
        self.gate = Gate(self.bounds, self.policy, self._proxy, self.ledger, self._identify, _said_uid)
        self._loop = asyncio.get_running_loop()
        with service.listening(self.socket) as listening:
            self._serving = asyncio.create_task(self.gate.serve(listening))
            judging = asyncio.create_task(service.judge_again_and_again(self._proxy.judge_again, self._sleep))
            self._is_open.set()
            with suppress(asyncio.CancelledError):
                await self._serving
            judging.cancel()
            self._proxy.close()

    async def _sleep(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            await asyncio.sleep(0.01)

    def _look_up(self, host: str) -> list[str]:
        self.looked_up.append(host)
        if host not in self.names:
            raise socket.gaierror("no such name")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def hear(self) -> None:
        """The gate hears the rules as they are now."""
        self._version += 1
        self.policy.hear(schema.EgressPolicy(version=str(self._version), agents={user: list(rules) for user, rules in self.rules.items()}))

    def allow(self, host: str, *ports: int, user: str = "scout", effect: str = "allow") -> None:
        rule = schema.EgressRule.model_validate({"agent": user, "effect": effect, "host": host, "ports": list(ports)})
        self.rules[user].append(rule)
        self.hear()

    def judge_again(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.judge_again)

    def upstream(self, handle: Callable[[Upstream, socket.socket], None] | None = None, user: str = "scout") -> Upstream:
        """One on the loopback, which a rule names."""
        found = Upstream(handle)
        self.upstreams.append(found)
        self.allow("127.0.0.1", found.port, user=user)
        return found

    def knock(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_SECONDS)
        connection.bind(f"\0gate-{uuid.uuid4()}:{'' if self.user is None else self.user}")
        connection.connect(str(self.socket))
        return connection

    def ask(self, message: bytes) -> bytes:
        """All that is answered to these bytes."""
        with self.knock() as connection:
            connection.sendall(message)
            return everything(connection)

    def tunnel(self, host: str, port: int) -> socket.socket:
        """One that is open. Raises `AssertionError` with the answer if it is refused."""
        connection = self.knock()
        connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            arrived = connection.recv(1)  # and not more: what follows is the tunnel's
            assert arrived, answer
            answer += arrived
        assert answer.startswith(b"HTTP/1.1 200"), answer + everything(connection)
        return connection

    def contact(self, number: int = 0) -> schema.Contact:
        """What the colony has come to know of a connection that is over."""
        return until(lambda: self.colony.ended[number:], "a contact")[0]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        self.ledger.close(1.0)
        self.meter.close(1.0)
        for upstream in self.upstreams:
            upstream.close()
        shutil.rmtree(self.folder)


def _said_user(connection: socket.socket) -> str | None:
    """As the kernel would say it: these clients have a name of their own."""
    name = bytes(connection.getpeername() or b"").decode()  # the gate's question to itself has none
    return name.partition(":")[2] or None


def _said_uid(connection: socket.socket) -> int:
    user = _said_user(connection)
    return zlib.crc32(user.encode()) if user else os.geteuid()


def everything(connection: socket.socket) -> bytes:
    """Until the other end hangs up."""
    found = b""
    try:
        while arrived := connection.recv(65536):
            found += arrived
    except ConnectionResetError:
        pass
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def code(answer: bytes) -> str:
    """Of a refusal, whose shape is checked on the way: the colony's, or where the model was asked that of its API."""
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    if b"content-type: application/json" in head.lower():
        assert problem["type"] == "error"
        assert problem["error"]["type"].endswith(("_error", "_too_large"))
        return str(re.fullmatch(r".+ [(](\w+)[)]", problem["error"]["message"])[1])  # type: ignore[index]
    assert b"content-type: application/problem+json" in head.lower()
    assert problem["status"] == status(answer)
    assert problem["title"]
    assert problem["detail"]
    return str(problem["code"])
