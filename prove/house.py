"""A private colony with everything that belongs to it: the real server, agents with real workers, and the apes' identities."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from colony import errors, failpoints, operations, schema
from colony.client import Client
from prove import brain, processes
from prove.plan import Options
from prove.processes import Kept
from provisioning import home as homes

CHANNELS = ("general", "garden", "kitchen")
ASIDES = "garden"  # where agents say something with their tools
LEASE_SECONDS = 5  # the shortest that the server grants
FIRST_BACKOFF_SECONDS = 0.25  # a minute, as it is else, would be too long a wait after each of a thousand crashes
THINKING_SECONDS = 0.3
START_SECONDS = 60.0
STOP_SECONDS = 12.0  # a worker gives its turn ten

SandboxKind = Literal["bwrap", "none"]


@dataclass
class Agent:
    name: str
    token: str
    home: Path
    twin_home: Path  # its home on another host
    worker: Kept = field(init=False)
    is_away: bool = False  # stopped, while its twin stands in: nothing else shall happen to it

    @property
    def turn(self) -> int | None:
        """The pid of the turn that it runs."""
        worker = self.worker.pid
        return next(iter(processes.children(worker)), None) if worker else None

    @property
    def runner(self) -> int | None:
        turn = self.turn
        innermost = processes.leaf(turn) if turn else None
        return innermost if innermost != turn else None


class House:
    """The colony runs while the `with` block lasts; its folder stays, for `remove`."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.points = folder, folder / "failpoints"
        self.sandbox: SandboxKind = "bwrap" if _bwrap_works() else "none"
        self.url = f"unix:{folder / 'api.sock'}"
        self._options = options
        self.agents: list[Agent] = []
        self.ape_tokens: list[str] = []

    def __enter__(self) -> House:
        for folder in (self.points, self.folder / "tmp"):
            folder.mkdir(mode=0o700)
        self.server = self._kept("server", *self._server_argv())
        try:
            with Client(self.url) as admin:
                self._await_server(admin)
                self._furnish(admin)
        except BaseException:
            self.server.let_go(STOP_SECONDS)
            self.remove()  # nothing has happened in it yet
            raise
        for agent in self.agents:
            agent.worker = self._worker(agent.name, agent.home)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for point in failpoints.POINTS:
            failpoints.disarm(self.points, point)
        for kept in (*(agent.worker for agent in self.agents), self.server):
            kept.let_go(STOP_SECONDS)

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def twin(self, agent: Agent) -> Kept:
        """The agent's worker on another host, where nobody knows that it runs here."""
        return self._worker(f"{agent.name}-twin", agent.twin_home)

    @property
    def server_worker(self) -> int | None:
        """The pid of the process that answers."""
        master = self.server.pid
        return next(iter(processes.children(master)), None) if master else None

    def answers(self) -> bool:
        with Client(self.url) as client:
            try:
                client.call(operations.WHOAMI, schema.Whoami())
            except errors.Unavailable:
                return False
            return True

    def last_words(self, name: str) -> str:
        """The last line that a process of this name has written."""
        return next(reversed((self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()), "")

    def _server_argv(self) -> list[str]:
        program = self._options.server_argv or (sys.executable, "-P", "-m", "server")
        database = ["--database", self._options.database_url] if self._options.database_url else []
        listen = ["--port", "0", "--socket", str(self.folder / "api.sock"), "--threads", "64"]
        return [*program, "--home", str(self.folder), *database, "run", *listen, "--first-backoff", str(FIRST_BACKOFF_SECONDS)]

    def _worker(self, name: str, home: Path) -> Kept:
        return self._kept(name, sys.executable, "-P", "-m", "colony_agent", "worker", "--home", str(home))

    def _kept(self, name: str, *argv: str) -> Kept:
        known = {key: value for key, value in os.environ.items() if not key.startswith("COLONY_")}
        own = {failpoints.VARIABLE: str(self.points), "TMPDIR": str(self.folder / "tmp")}  # a killed turn leaves its socket there
        return Kept(argv, self.folder / f"{name}.log", {**known, **own})

    def _await_server(self, admin: Client) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                admin.call(operations.WHOAMI, schema.Whoami())
                return
            except errors.Unavailable as error:
                if self.server.ends or time.monotonic() > deadline:
                    last = self.last_words("server").removeprefix("colony-server: ")
                    raise errors.Unavailable(f"the server does not start: {last or error.detail}") from error
                time.sleep(0.05)

    def _furnish(self, admin: Client) -> None:
        users = admin.call(operations.USERS, schema.ListUsers()).users
        if [user.username for user in users] != ["colony"]:
            raise errors.Conflict("this database holds a colony already; a proof needs an empty one of its own")
        for name in CHANNELS[1:]:
            admin.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=name))
        admin.call(operations.SET_ACL, schema.SetAcl(principal="agents", action="post", scope=f"channel:{ASIDES}", effect="allow"))
        self.ape_tokens = [_new_user(admin, f"ape{number}", "ape") for number in range(1, self._options.apes + 1)]
        for number in range(1, self._options.agents + 1):
            name = f"agent{number}"
            agent = Agent(name, _new_user(admin, name, "agent"), self.folder / "homes" / name, self.folder / "twins" / name)
            self._settle(agent)
            admin.call(operations.SET_STATUS, schema.SetStatus(agent=name, status="healthy"))
            self.agents.append(agent)

    def _settle(self, agent: Agent) -> None:
        python = os.path.realpath(sys.executable)
        settings = {
            "name": agent.name,
            "runner": "command",
            "command": [python, "-I", "-S", str(Path(brain.__file__)), ASIDES, str(THINKING_SECONDS)],
            "sandbox": self.sandbox,
            "lease_seconds": LEASE_SECONDS,
            "turn_timeout_seconds": 60,
            "pulse_minutes": 0,
        }
        for home in (agent.home, agent.twin_home):
            home.parent.mkdir(exist_ok=True)
            homes.prepare(home, f"You are {agent.name}.\n", {"url": self.url, "token": agent.token}, settings)


def _new_user(admin: Client, name: str, kind: schema.Kind) -> str:
    """Gives the new user's token."""
    admin.call(operations.CREATE_USER, schema.CreateUser(username=name, kind=kind))
    return admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=name)).token


def _bwrap_works() -> bool:
    bwrap = shutil.which("bwrap")
    probe = ["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    return bool(bwrap) and subprocess.run([str(bwrap), *probe], capture_output=True, check=False).returncode == 0
