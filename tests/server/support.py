"""A colony with its standing cast in this process, for the tests of the server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import Table, func, select, text

from colony import operations, schema
from colony.client import Client
from server import create_app
from server.config import ServerConfig
from server.gate import Gate
from server.models.audit import audit
from server.models.inbox import inbox
from server.models.message import messages
from server.models.turn import turns
from server.models.user import users
from tests.server.cast import AGENTS, APES, WRONG_TOKEN, token_of

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
AnyOperation = operations.Operation[Any, Any]
Call = tuple[AnyOperation, schema.Request]
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # where the storage makes no difference


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
        self.admin = self.peer(self._ends[0])

    @property
    def gate(self) -> Gate:
        gate: Gate = self.app.extensions["gate"]
        return gate

    def client(self, token: str | None = None, turn: str | None = None) -> Client:
        """A caller over WSGI with a token, perhaps within a turn (`ID.ATTEMPT`)."""
        return self._keep(Client("http://colony", token, turn, transport=httpx.WSGITransport(app=self.app)))

    def peer(self, end: socket.socket) -> Client:
        """A caller over the unix socket without a token: who is at this socket's other end."""

        def over_unix_socket(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            return self.app(environ | {"gunicorn.socket": end}, start)

        return self._keep(Client("http://colony", transport=httpx.WSGITransport(app=over_unix_socket)))

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

    def watch(self, watcher: Client, channel: str) -> None:
        watcher.call(operations.WATCH, schema.WatchChannel(channel=channel))

    # --- what the database holds

    def rows(self, table: Table, *conditions: Any) -> list[Any]:
        """The table's rows, oldest first."""
        with self.gate.database.read() as connection:
            return list(connection.execute(select(table).where(*conditions).order_by(*table.primary_key.columns)))

    def execute(self, statement: str) -> None:
        """What only someone could do who can write the database."""
        self.gate.database.write(lambda connection: connection.execute(text(statement)))

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

    def _keep(self, client: Client) -> Client:
        self._clients.append(client)
        return client


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The answer's RFC 9457 problem, whose shape is checked on the way."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(answer.content)
    assert found.keys() == {"type", "title", "status", "detail", "code"}
    assert found["status"] == answer.status_code
    assert found["title"]
    assert found["detail"]
    return found
