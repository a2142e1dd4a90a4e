"""What the tests of the server stand on: a colony with its standing cast in this process, and the real server as a process."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, Table, create_engine, func, select, text, update

from colony import operations, schema
from colony.client import Client
from server import create_app, migrations
from server.config import ServerConfig
from server.database import open_database, sqlite_url
from server.gate import Gate
from server.models import user
from server.models.audit import audit
from server.models.base import now
from server.models.inbox import inbox
from server.models.message import messages
from server.models.turn import turns
from server.models.user import users

APES, AGENTS = ("ann", "bob"), ("scout", "rook")
WRONG_TOKEN = "eve-has-no-account"
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
POSTGRES_FOLDERS = "/usr/lib/postgresql/*/bin"

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # where the storage makes no difference


def token_of(username: str) -> str:
    """The token of one of the standing cast; alike in every test, so that a database can be copied."""
    return f"{username}-s-own-token"


def settle_cast(connection: Connection) -> None:
    """A migrated database with ann and bob (apes), scout and rook (healthy agents), each with the token `token_of(name)`."""
    migrations.upgrade(connection)
    for name in APES + AGENTS:
        user.create(connection, schema.CreateUser(username=name, kind="ape" if name in APES else "agent"), None, now())
        hashed = user.token_hash(token_of(name))
        connection.execute(update(users).where(users.c.username == name).values(token_hash=hashed, status="healthy"))


class Clock:
    """A clock that stands at noon of 2030-01-01 UTC until a test moves it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Colony:
    """A colony in this process: `colony.ann.call(operations.POST, …)`, and shortcuts for what tests say most.

    Clients: `ann` and `bob` (apes), `scout` and `rook` (healthy agents), `eve` (a token nobody gave out), `stranger` (no credentials at
    all), `admin` (this process's own uid over a real unix socket, which is what administrates). `clock.advance(seconds)` moves its time.
    """

    def __init__(self, database_url: str, clock: Clock, config: ServerConfig | None = None) -> None:
        self.database_url, self.clock = database_url, clock
        self.app: Flask = create_app(config or ServerConfig(database_url), clock=clock)
        self._clients: list[Client] = []
        self._ends = socket.socketpair(socket.AF_UNIX)
        self.ann, self.bob, self.scout, self.rook = (self.client(token_of(name)) for name in APES + AGENTS)
        self.eve, self.stranger = self.client(WRONG_TOKEN), self.client()
        self.admin = self._admin()

    @property
    def gate(self) -> Gate:
        return self.app.extensions["gate"]

    def client(self, token: str | None = None, turn: str | None = None) -> Client:
        """A caller over WSGI with a token, perhaps within a turn (`ID.ATTEMPT`)."""
        return self._keep(Client("http://colony", token, turn, transport=httpx.WSGITransport(app=self.app)))

    def in_turn(self, turn: schema.Turn, attempt: int | None = None) -> Client:
        """The turn's agent, speaking for this attempt of it."""
        return self.client(token_of(turn.agent), f"{turn.id}.{attempt or turn.attempt}")

    def http(self, token: str | None = None) -> httpx.Client:
        """Plain HTTP, for what no proper client would send."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url="http://colony", transport=httpx.WSGITransport(app=self.app), headers=headers)

    # --- what tests say most

    def post(self, author: Client, body: str, channel: str = "general", **more: Any) -> schema.Message:
        return author.call(operations.POST, schema.PostMessage(channel=channel, body=body, **more))

    def read(self, channel: str = "general", since: int | None = 0, limit: int = 500) -> list[schema.Message]:
        known = {} if since is None else {"since": since}
        return self.ann.call(operations.READ, schema.ReadMessages(channel=channel, limit=limit, **known)).messages

    def inbox(self, reader: Client, **more: Any) -> list[schema.InboxItem]:
        return reader.call(operations.INBOX, schema.ReadInbox(**more)).items

    def claim(self, agent: Client, **more: Any) -> schema.Claim:
        return agent.call(operations.CLAIM, schema.ClaimTurn(**more))

    def turn(self, agent: Client, **more: Any) -> schema.Turn:
        """A turn that must be there."""
        claim = self.claim(agent, **more)
        assert claim.turn, f"no turn: {claim.reason}"
        return claim.turn

    def finish(self, turn: schema.Turn, reply: str | None = None, **more: Any) -> schema.Turn:
        return self.in_turn(turn).call(operations.FINISH, schema.FinishTurn(id=turn.id, reply=reply, **more))

    def fail(self, turn: schema.Turn, code: str = "crashed", **more: Any) -> schema.Turn:
        return self.in_turn(turn).call(operations.FAIL, schema.FailTurn(id=turn.id, code=code, **more))

    def set_status(self, agent: str, status: schema.Status, note: str = "") -> schema.Agent:
        return self.admin.call(operations.SET_STATUS, schema.SetStatus(agent=agent, status=status, note=note))

    def heartbeat(self, agent: str, **more: Any) -> schema.Outlook:
        return self.client(token_of(agent)).call(operations.HEARTBEAT, schema.Heartbeat(agent=agent, **more))

    def open_channel(self, name: str) -> str:
        self.ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name))
        return name

    # --- what the database holds

    def rows(self, table: Table, *conditions: Any) -> list[Any]:
        """The table's rows, oldest first."""
        with self.gate.database.read() as connection:
            return list(connection.execute(select(table).where(*conditions).order_by(*table.primary_key.columns)))

    def audit(self) -> list[tuple[str, str | None, str, str | None]]:
        """(operation, actor, outcome, error code) of each audit row."""
        query = select(audit.c.operation, users.c.username, audit.c.outcome, audit.c.error_code)
        with self.gate.database.read() as connection:
            found = connection.execute(query.select_from(audit.outerjoin(users, users.c.id == audit.c.actor_id)).order_by(audit.c.id))
            return [tuple(row) for row in found]

    def count(self, table: Table, *conditions: Any) -> int:
        with self.gate.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())

    def items(self, agent: str) -> list[Any]:
        """Every inbox row of a user, closed ones too."""
        return self.rows(inbox, inbox.c.agent_id == self.id_of(agent))

    def id_of(self, username: str) -> int:
        return int(self.rows(users, users.c.username == username)[0].id)

    def replies(self, turn_id: int) -> list[Any]:
        return self.rows(messages, messages.c.client_id == f"{turn_id}:reply")

    def turns(self) -> list[Any]:
        return self.rows(turns)

    def close(self) -> None:
        self.gate.waiters.close()
        for client in self._clients:
            client.close()
        for end in self._ends:
            end.close()
        self.gate.database.close()

    def _admin(self) -> Client:
        def over_unix_socket(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            return self.app(environ | {"gunicorn.socket": self._ends[0]}, start)

        return self._keep(Client("http://colony", transport=httpx.WSGITransport(app=over_unix_socket)))

    def _keep(self, client: Client) -> Client:
        self._clients.append(client)
        return client


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


class Postgres:
    """A private PostgreSQL on a unix socket in /tmp, for as long as this process lives."""

    def __init__(self) -> None:
        binaries = sorted(Path("/").glob(POSTGRES_FOLDERS.lstrip("/") + "/initdb"))
        assert binaries, f"no PostgreSQL in {POSTGRES_FOLDERS}: apt-get install postgresql (these tests are never skipped)"
        self._binaries = binaries[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="colony-pg-", dir="/tmp"))
        self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._databases = 0
        self._engines: list[Engine] = []
        try:
            self._initialise()
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        self.create("template_house")
        database = open_database(self.url("template_house"))
        database.write(settle_cast)
        database.close()

    def _initialise(self) -> None:
        options = ["--username=colony", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        make = ["initdb", "--pgdata", self.folder / "data", *options]
        made = subprocess.run([self._binaries / make[0], *make[1:]], cwd="/", capture_output=True, check=False, **self._as)
        assert made.returncode == 0, made.stderr.decode()

    def _start(self) -> subprocess.Popen[bytes]:
        fast = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200", "autovacuum=off")
        where = ("listen_addresses=", f"unix_socket_directories={self.folder}")
        options = [part for setting in fast + where for part in ("-c", setting)]
        process = subprocess.Popen(
            [self._binaries / "postgres", "-D", self.folder / "data", *options],
            cwd="/",
            stderr=(self.folder / "log").open("ab"),
            preexec_fn=die_with_parent,  # after the change of user, which would clear it
            **self._as,
        )
        deadline = time.monotonic() + 30
        while subprocess.run([self._binaries / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.05)
        return process

    def url(self, database: str) -> str:
        return f"postgresql://colony@/{database}?host={self.folder}"

    def fresh(self) -> str:
        """The URL of a new database with the standing cast."""
        self._databases += 1
        name = f"house_{self._databases}"
        self.create(name, template="template_house")
        return self.url(name)

    def create(self, name: str, template: str = "template1") -> str:
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self._run(f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]} WITH (FORCE)")

    def restart(self, pause_seconds: float = 0) -> None:
        """End every connection and start again; the databases stay."""
        self._process.send_signal(signal.SIGINT)  # a fast shutdown
        self._process.wait(30)
        for engine in self._engines:
            engine.dispose()
        time.sleep(pause_seconds)
        self._process = self._start()

    def query(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What the cluster itself says, outside any transaction."""
        engine = create_engine(self.url(database).replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(statement))]
        finally:
            engine.dispose()

    def _run(self, statement: str) -> None:
        if not self._engines:
            url = self.url("postgres").replace("postgresql:", "postgresql+psycopg:")
            self._engines.append(create_engine(url, isolation_level="AUTOCOMMIT"))
        with self._engines[0].connect() as connection:
            connection.execute(text(statement))

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(20)
        shutil.rmtree(self.folder)


def sqlite_template(folder: Path) -> Path:
    """A file with the standing cast, to be copied."""
    path = folder / "template.db"
    database = open_database(sqlite_url(path))
    database.write(settle_cast)
    database.close()
    assert not path.with_name("template.db-wal").exists(), "a copy of the file alone would be incomplete"
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_root(*command: str | Path) -> None:
    """Run what only root may, such as a mount."""
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], check=True)


def die_with_parent() -> None:
    """For `preexec_fn`: a killed test run leaves no process behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The answer's RFC 9457 problem, whose shape is checked on the way."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(answer.content)
    assert found.keys() == {"type", "title", "status", "detail", "code"}
    assert found["status"] == answer.status_code
    assert found["title"]
    assert found["detail"]
    return found


# --- a call of each operation that succeeds

SECRET = "a-text-that-only-the-receiver-may-read"
Sample = tuple[Client, schema.Request]


def _running(colony: Colony) -> schema.Turn:
    colony.post(colony.ann, "@scout hello")
    return colony.turn(colony.scout)


def _finish(colony: Colony) -> Sample:
    turn = _running(colony)
    return colony.in_turn(turn), schema.FinishTurn(id=turn.id, reply=SECRET)


def _fail(colony: Colony) -> Sample:
    turn = _running(colony)
    return colony.in_turn(turn), schema.FailTurn(id=turn.id, code="crashed", detail=SECRET)


def _renew(colony: Colony) -> Sample:
    turn = _running(colony)
    return colony.in_turn(turn), schema.RenewTurn(id=turn.id)


def _claim(colony: Colony) -> Sample:
    colony.post(colony.ann, "@scout hello")
    return colony.scout, schema.ClaimTurn()


def _ack(colony: Colony) -> Sample:
    colony.post(colony.ann, "@bob hello")
    return colony.bob, schema.AckInbox(ids=[item.id for item in colony.inbox(colony.bob)])


def _retry(colony: Colony) -> Sample:
    asked = colony.post(colony.ann, "@scout hello")
    colony.fail(colony.turn(colony.scout), permanent=True)
    return colony.ann, schema.RetryMessage(id=asked.id)


SAMPLES: dict[str, Callable[[Colony], Sample]] = {
    "whoami": lambda colony: (colony.ann, schema.Whoami()),
    "users": lambda colony: (colony.ann, schema.ListUsers()),
    "create_user": lambda colony: (colony.admin, schema.CreateUser(username="zoe", kind="ape")),
    "issue_token": lambda colony: (colony.admin, schema.IssueToken(username="bob")),
    "channels": lambda colony: (colony.ann, schema.ListChannels()),
    "create_channel": lambda colony: (colony.ann, schema.CreateChannel(name="garden")),
    "watch": lambda colony: (colony.bob, schema.WatchChannel(channel="general")),
    "unwatch": lambda colony: (colony.bob, schema.UnwatchChannel(channel="general")),
    "read": lambda colony: (colony.ann, schema.ReadMessages(channel="general")),
    "post": lambda colony: (colony.ann, schema.PostMessage(channel="general", body=SECRET)),
    "explain": lambda colony: (colony.ann, schema.ExplainMessage(id=colony.post(colony.ann, "@scout hello").id)),
    "retry": _retry,
    "inbox": lambda colony: (colony.ann, schema.ReadInbox()),
    "ack": _ack,
    "claim": _claim,
    "finish": _finish,
    "fail": _fail,
    "renew": _renew,
    "stop": lambda colony: (colony.ann, schema.StopTurn(id=_running(colony).id)),
    "turn": lambda colony: (colony.ann, schema.GetTurn(id=_running(colony).id)),
    "turns": lambda colony: (colony.ann, schema.ListTurns()),
    "agents": lambda colony: (colony.ann, schema.ListAgents()),
    "heartbeat": lambda colony: (colony.scout, schema.Heartbeat(agent="scout")),
    "events": lambda colony: (colony.ann, schema.ListEvents()),
    "set_status": lambda colony: (colony.admin, schema.SetStatus(agent="rook", status="paused")),
    "set_limits": lambda colony: (colony.admin, schema.SetLimits(agent="rook", turns_per_hour=7)),
}
