"""A settlement whose agents are the real Claude Code: whatever they think passes the gate, to a stand-in of the API in the machine."""

from __future__ import annotations

import time
from dataclasses import replace

from colony import errors, operations, schema
from prove.brain import ANSWER, ASIDE
from tests.guest.guest import Guest
from tests.host import processes
from tests.host.processes import Process
from tests.host.settlement import AGENTS, ASIDES, Settlement
from tests.standin import Reply, Request, Standin, error, text, tool

AWAY_SECONDS = 60  # within which the server tells the stand-in what a turn is about


class Thinkers(Settlement):
    """`api` is where they all think; each has a key of its own."""

    soul = "---\nrunner: claude\nmodel: claude-test\npulse_minutes: 0\n---\nYou are struck.\n"
    memory_max = "1G"

    def __init__(self, machine: Guest, api: Standin) -> None:
        super().__init__(machine)
        self._api = api

    def furnish(self, first_backoff_seconds: float) -> None:
        self.machine.run("colony-agent", "credential", "set", "ANTHROPIC_BASE_URL", stdin=self._api.url)
        self._api.script(self._answer)
        super().furnish(first_backoff_seconds)

    def bear(self, agent: str) -> None:
        self.machine.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", "--agent", agent, stdin=_key(agent))
        super().bear(agent)

    def thinking(self) -> list[Process]:
        return [process for process in processes.of_colony(self.machine) if process.argv[0].endswith("/claude")]

    def _answer(self, request: Request) -> Reply:
        """As `prove/brain.py` does: first something elsewhere, by a tool, and then which messages are answered."""
        agent = next((agent for agent in AGENTS if request.headers.get("x-api-key") == _key(agent)), "")
        turn = self._turn(agent) if agent else None
        if turn is None:
            return error(401)
        last = request.body["messages"][-1]["content"]
        if any(block["type"] == "tool_result" for block in last if isinstance(block, dict)):
            return replace(text(f"{ANSWER} {' '.join(str(item.message.id) for item in turn.items)}"), delay_seconds=1)
        return replace(tool("mcp__colony__post", {"channel": ASIDES, "body": f"{ASIDE} {turn.id}"}), delay_seconds=1)

    def _turn(self, agent: str) -> schema.Turn | None:
        deadline = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < deadline:
            try:
                if turn_id := self.agents()[agent].turn_id:
                    with self.administrator() as admin:
                        return admin.call(operations.TURN, schema.GetTurn(id=turn_id))
            except (errors.ColonyError, OSError):
                pass
            time.sleep(0.2)
        return None


def _key(agent: str) -> str:
    return f"sk-ant-of-{agent}"
