"""A colony on a machine that is to be struck: two agents, three people, and what can be asked of it from outside."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from colony import errors, operations, schema
from colony.client import Client
from prove import brain, history
from prove.history import History, Verdict
from prove.load import Asked
from tests.guest.guest import Guest
from tests.host import mind, processes
from tests.host.cast import birth, rest
from tests.host.processes import Process

AGENTS = ("scout", "rook")
PEOPLE = ("ann", "bob", "cleo")
CHANNELS = ("kitchen", "yard")
ASIDES = "garden"  # where agents say something with their tools
SERVER, GATE = "colony-server", "colony-egress"
WORKERS = tuple(f"agent-{agent}-worker" for agent in AGENTS)
MIND, BRAIN, SOUL = "/opt/brains/mind.py", "/opt/brains/brain.py", "/opt/brains/struck.md"
THINKING_SECONDS = 0.15
COMMAND = f"/usr/bin/python3 -I {MIND} {BRAIN} {ASIDES} {THINKING_SECONDS}"
GLANCE_SECONDS = 0.1


class Settlement:
    """`asked` is all that people wanted to say so far."""

    soul = f'---\nrunner: "command:{COMMAND}"\npulse_minutes: 0\n---\nYou are struck.\n'
    memory_max = "128M"

    def __init__(self, machine: Guest) -> None:
        self.machine = machine
        self.asked: list[Asked] = []
        self.tokens: dict[str, str] = {}

    def furnish(self, first_backoff_seconds: float) -> None:
        """Let agents be born and people join; a turn whose program fell over rests for so long."""
        rest(self.machine, first_backoff_seconds)
        self.machine.write(MIND, Path(mind.__file__).read_text(), 0o755)
        self.machine.write(BRAIN, Path(brain.__file__).read_text(), 0o755)
        self.machine.write(SOUL, self.soul)
        with self.administrator() as admin:
            for channel in (*CHANNELS, ASIDES):
                admin.call(operations.CREATE_CHANNEL, schema.CreateChannel(name=channel))
            admin.call(operations.SET_ACL, schema.SetAcl(principal="agents", action="post", scope=f"channel:{ASIDES}", effect="allow"))
            for person in PEOPLE:
                admin.call(operations.CREATE_USER, schema.CreateUser(username=person, kind="ape"))
                self.tokens[person] = admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username=person)).token
        for agent in AGENTS:
            self.bear(agent)

    def bear(self, agent: str) -> None:
        birth(self.machine, agent, "--memory-max", self.memory_max, soul=SOUL)

    # --- what there is

    @property
    def url(self) -> str:
        """The server's socket as it is reached from outside; another one after each boot."""
        return f"unix:{self.machine.path('/run/colony/api.sock')}"

    @contextmanager
    def administrator(self) -> Iterator[Client]:
        with Client(self.url) as client:
            yield client

    def agents(self) -> dict[str, schema.Agent]:
        with self.administrator() as admin:
            return {agent.username: agent for agent in admin.call(operations.AGENTS, schema.ListAgents()).agents}

    def set_status(self, agent: str, status: schema.Status) -> None:
        with self.administrator() as admin:
            admin.call(operations.SET_STATUS, schema.SetStatus(agent=agent, status=status))

    def processes(self) -> list[Process]:
        return processes.of_colony(self.machine)

    def thinking(self) -> list[Process]:
        """What thinks for agents right now."""
        return [process for process in self.processes() if MIND in process.argv and not process.argv[0].endswith("bwrap")]

    def dreaming(self) -> list[Process]:
        return [process for process in self.thinking() if process.unit.endswith("-dream.service")]

    def notices(self) -> list[str]:
        """What #ops was told so far."""
        request = schema.ReadMessages(channel="ops", since=0, limit=500)
        with self.administrator() as admin, suppress(errors.NotFound):
            return [message.body for message in admin.call(operations.READ, request).messages]
        return []

    # --- how it is

    def until(self, what: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for it; while the server is away it is not so."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(errors.Unavailable):
                if what():
                    return
            assert time.monotonic() < deadline, f"it did not come to that within {seconds:.0f} s"
            time.sleep(0.02)

    def settle(self, seconds: float) -> None:
        """Wait until it is well, without doing anything."""
        deadline = time.monotonic() + seconds
        while ailments := self.ailments():
            assert time.monotonic() < deadline, f"not well after {seconds:.0f} s: {'; '.join(ailments)}"
            time.sleep(GLANCE_SECONDS)

    def ailments(self) -> list[str]:
        """What keeps it from being well; empty once nobody has anything left to do, either."""
        try:
            return self._unanswered() or self._ailing_units() or self._troubled_agents()
        except (errors.ColonyError, AssertionError, OSError, LookupError, ValueError, subprocess.TimeoutExpired) as error:
            return [str(error)]  # the machine is away, or something in it

    def _unanswered(self) -> list[str]:
        agents = self.agents().values()
        return [f"{agent.username}: {agent.inbox} wait, turn {agent.turn_id}" for agent in agents if agent.inbox or agent.turn_id]

    def _ailing_units(self) -> list[str]:
        lasting = (f"{SERVER}.service", f"{GATE}.service", *(f"{worker}.service" for worker in WORKERS))
        shown = self.machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend").stdout.splitlines()
        states = {words[0]: words[2] for line in shown if len(words := line.split()) > 3}
        down = [f"{unit} is {states.get(unit)}" for unit in lasting if states.get(unit) != "active"]
        ours = [f"{unit} is {state}" for unit, state in states.items() if unit.startswith(processes.OURS) and state == "activating"]
        return [*down, *ours, *(f"{unit} has failed" for unit, state in states.items() if state == "failed")]

    def _troubled_agents(self) -> list[str]:
        shown = json.loads(self.machine.run("colony-agent", "status", "--json").stdout)
        return [f"{agent['name']}: {agent['trouble']}" for agent in shown if agent["trouble"]]

    # --- what became of it

    def judged(self) -> Verdict:
        """What became of all that was ever asked."""
        with self.administrator() as admin:
            found = history.collect(admin, AGENTS, self.asked)
        ours = {*CHANNELS, ASIDES}
        said = [message for message in found.messages if message.channel in ours]
        last_seqs = {channel: seq for channel, seq in found.last_seqs.items() if channel in ours}
        return history.check(History(found.asked, said, last_seqs, found.waiting, found.unfinished))

    def unexplained(self, asked: list[Asked]) -> list[str]:
        """Mentions of which `colony explain` tells no end."""
        ids = [each.id for each in asked if each.id is not None]
        with self.administrator() as admin:
            explained = [admin.call(operations.EXPLAIN, schema.ExplainMessage(id=id)) for id in ids]
        fates = [(told.message.id, fate) for told in explained for fate in told.fates]
        return [f"message {id}: {fate.receiver} {fate.outcome}" for id, fate in fates if fate.outcome not in ("answered", "dead")]
