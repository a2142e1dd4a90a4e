"""A real server with real agents: a home as a birth leaves it, a runner that the test writes, and the processes of its worker."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from colony import operations, schema
from colony.client import Client
from colony.config import STATE_FILE
from colony_agent import entry, state
from colony_agent.tools import Toolbox
from provisioning import home as homes
from tests.colony_agent.brains import ECHO
from tests.server.cast import token_of
from tests.server.machine import die_with_parent
from tests.server.serving import Server

BIN = Path(sys.executable).parent
WORKER = Path(state.__file__).with_name("worker.py")
DONE, FAILED, NOTHING = 0, 10, 75  # the exit codes of a turn
LONG = 30.0  # seconds that a noisy machine may take for what takes one
SOON = 5.0  # what takes milliseconds; whoever only polls needs 25 s
_numbers = itertools.count(1)


class House:
    """The real server as a process with ann and bob; agents come to it as tests need them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.admin, self.ann, self.bob = Client(server.url), server.client(token_of("ann")), server.client(token_of("bob"))

    def agent(self, path: Path, brain: str = ECHO, *, linux_user: str | None = None, **settings: Any) -> Agent:
        """A new, healthy agent with a channel of its own. `brain` is a shell script; its settings are those of .colony.toml."""
        name = f"scout{os.getpid()}-{next(_numbers)}"
        self.admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind="agent", linux_user=linux_user))
        self.admin.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name))
        token = self.admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=name)).token
        agent = Agent(self, path / name, name, token)
        agent.settle(brain, **settings)
        agent.set_status("healthy")
        return agent

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says, for what no operation tells."""
        with closing(sqlite3.connect(f"file:{self.server.database}?mode=ro", uri=True, timeout=20)) as connection:
            return list(connection.execute(query, values))

    def close(self) -> None:
        for client in (self.admin, self.ann, self.bob):
            client.close()


@contextmanager
def housed(sqlite_file: Path, *options: str) -> Iterator[House]:
    """A house whose server runs while the block lasts."""
    server = Server(sqlite_file, options)
    house = House(server)
    try:
        server.start()
        yield house
    finally:
        house.close()
        server.close()


class Agent:
    """One agent: its home, its identity, and what the colony says about it."""

    def __init__(self, house: House, home: Path, name: str, token: str) -> None:
        self.house, self.home, self.name, self.token = house, home, name, token

    def settle(self, brain: str = ECHO, url: str = "", token: str = "", **settings: Any) -> None:
        """Write the home, or write its machine files anew."""
        connection = {"url": url or self.house.server.url, "token": token or self.token}
        table = {"name": self.name, "runner": "command", "command": ["/bin/sh", "brain.sh"], **settings}
        (self.home / ".colony.toml").unlink(missing_ok=True)
        homes.prepare(self.home, "You are a scout.\n", connection, table)
        (self.home / "brain.sh").write_text(brain)

    # --- what people do

    def ask(self, body: str = "hello", author: Client | None = None, channel: str = "") -> schema.Message:
        """Mention it in its channel."""
        request = schema.PostMessage(channel=channel or self.name, body=f"@{self.name} {body}")
        return (author or self.house.ann).call(operations.POST, request)

    def set_status(self, status: schema.Status) -> None:
        self.house.admin.call(operations.SET_STATUS, schema.SetStatus(agent=self.name, status=status))

    # --- what it does

    def turn(self, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """One `colony-agent turn`, to its end."""
        return self.run("turn", *options, env=env)

    def run(self, command: str, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(command, *options), capture_output=True, text=True, timeout=60, env=_environment(env))

    def begin(self, command: str, *options: str) -> Process:
        """The same as a process that goes on."""
        return Process(self.argv(command, *options), self.home.with_suffix(".log"))

    def argv(self, command: str, *options: str) -> list[str]:
        return [str(BIN / "colony-agent"), command, "--home", str(self.home), *options]

    def worker(self, env: Mapping[str, str] | None = None, python: tuple[str, ...] = (), user: str | None = None, **orders: Any) -> Process:
        """Its worker, as the service starts it; with `orders` and options of `python` for what the settings don't let one choose."""
        log = self.home.with_suffix(".log")
        if not orders and not python:
            return Process(self.argv("worker"), log, env, user=user)
        document = {
            "agent": self.name,
            "url": self.house.server.url,
            "token": self.token,
            "turn_argv": entry.turn_argv(self.home),
            "turn_deadline_seconds": 60,
            "pulse_seconds": 0,
            "heartbeat_file": str(self.home / "heartbeat.md"),
            **orders,
        }
        descriptor = os.memfd_create("orders", 0)
        os.write(descriptor, json.dumps(document).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            return Process([sys.executable, "-I", "-S", *python, str(WORKER), str(descriptor)], log, env, (descriptor,))
        finally:
            os.close(descriptor)

    # --- what came of it

    @property
    def seen(self) -> schema.Agent:
        found = self.house.admin.call(operations.AGENTS, schema.ListAgents()).agents
        return next(each for each in found if each.username == self.name)

    def turns(self) -> list[schema.Turn]:
        """Its turns, newest first."""
        return self.house.admin.call(operations.TURNS, schema.ListTurns(agent=self.name, limit=500)).turns

    def said(self, channel: str = "") -> list[str]:
        """What it posted in its channel."""
        return [message.body for message in self.messages(channel) if message.author == self.name]

    def messages(self, channel: str = "") -> list[schema.Message]:
        request = schema.ReadMessages(channel=channel or self.name, since=0, limit=500)
        return self.house.ann.call(operations.READ, request).messages

    def outcomes(self) -> list[str | None]:
        """How each of its inbox items ended, oldest first."""
        query = "SELECT outcome FROM inbox JOIN users ON users.id = agent_id WHERE username = ? ORDER BY inbox.id"
        return [row[0] for row in self.house.rows(query, self.name)]

    def runs(self) -> int:
        """How often its brain has run."""
        return len((self.home / "runs").read_text().split()) if (self.home / "runs").exists() else 0

    @property
    def state(self) -> state.State:
        return state.load(self.home, STATE_FILE)

    def await_said(self, count: int = 1, seconds: float = LONG) -> list[str]:
        wait_for(lambda: len(self.said()) >= count, f"{count} replies", seconds)
        return self.said()


def claim(scout: Agent, kind: schema.TurnKind = "answer", take_over: bool = False) -> schema.Turn:
    """A turn taken by hand, with the agent's identity."""
    with scout.house.server.client(scout.token) as client:
        claimed = client.call(operations.CLAIM, schema.ClaimTurn(kind=kind, take_over=take_over)).turn
    assert claimed
    return claimed


def toolbox(agent: Agent, turn: schema.Turn, url: str = "") -> Toolbox:
    """The tools of this attempt of a turn."""
    return Toolbox(Client(url or agent.house.server.url, agent.token, f"{turn.id}.{turn.attempt}"), turn)


class Process:
    """A process that a test watches; it is dead when the block ends."""

    def __init__(
        self,
        argv: list[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._log, self._began = log, log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(env),
                pass_fds=descriptors,
                start_new_session=True,
                user=user,
                cwd=cwd,
                extra_groups=[] if user else None,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        """What it has written."""
        return self._log.read_bytes()[self._began :].decode(errors="replace")

    def await_log(self, text: str, count: int = 1, seconds: float = LONG) -> None:
        wait_for(lambda: self.log().count(text) >= count, f"{text!r} in the log", seconds, self.log)

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = LONG) -> int:
        return self.popen.wait(seconds)

    def family(self) -> list[psutil.Process]:
        """All that descend from it."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        family = self.family()
        if self.is_alive:
            self.popen.kill()
        self.popen.wait(10)
        for each in living(family):
            with suppress(psutil.NoSuchProcess):  # it may end just now
                each.kill()


def idle(worker: Process) -> None:
    """Wait until it holds its long poll."""
    worker.await_log("status=healthy")
    time.sleep(0.3)


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; an orphan that nobody has reaped yet has."""
    found = []
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def wait_for(condition: Callable[[], object], what: str, seconds: float = LONG, more: Callable[[], str] = lambda: "") -> None:
    """Poll until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s: {more()}"
        time.sleep(0.02)


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """As a service has it: neither this machine's colony nor its keys."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **(more or {})}
