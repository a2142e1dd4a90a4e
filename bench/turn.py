"""What the colony adds to a bare `claude -p`: from a mention to the visible reply, through server, worker, turn, sandbox and tools.

Both sides run the real CLI with the same settings against the same stand-in of the Messages API, which answers at once. The bare side
has no sandbox, no server and no session to resume. For the tool call it has the least MCP server that stdio allows (`least_tools`),
where the colony has its own tools: so the whole way of a tool call is part of what the colony adds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import agents, house, least_tools, wire
from bench.figures import Figure, Missing, Plan
from colony_agent.runner.claude import BOUNDS, TOOLS
from tests.standin import Reply, Request, Standin, text, tool
from tests.standin.claude import claude_binary, run_claude

BUDGET_SECONDS = 0.25
AGENT = "agent0"
TOOL = "mcp__colony__whoami"
REPLY = "It is done."
WAIT_SECONDS = 25


@dataclass
class Model:
    """Calls a tool first, if it is told to, and then says that it is done."""

    uses_tool: bool = False

    def __call__(self, request: Request) -> Reply:
        said = request.body["messages"][-1]["content"]
        has_result = isinstance(said, list) and any(block.get("type") == "tool_result" for block in said)
        return tool(TOOL, {}) if self.uses_tool and not has_result else text(REPLY)


def measure(plan: Plan) -> Iterator[Figure]:
    """Raises `Missing`."""
    try:
        claude = claude_binary()
    except FileNotFoundError as error:
        raise Missing(str(error)) from error
    with Standin() as api, house.open_house(plan, 1) as (home, _):
        model = Model()
        api.script(model)
        path = agents.settle(home, AGENT, {"claude": str(claude)})
        credentials = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "sk-ant-standin"}
        bare_home = Path(tempfile.mkdtemp(prefix="bare-", dir=plan.folder))
        with agents.working(path, credentials):
            for model.uses_tool in (False, True):
                pairs = [(bare(claude, api, bare_home, model.uses_tool), colony(home)) for _ in range(1 + plan.fewer(10, 4))]
                what = f"added to a bare claude -p, {kind(model.uses_tool)}"
                yield added(what, pairs[1:], ("bare", "colony"))  # the first ones fill caches


def bare(claude: Path, api: Standin, home: Path, uses_tool: bool) -> float:
    """Seconds that the CLI alone takes, from its start to its end."""
    server = {"type": "stdio", "command": sys.executable, "args": ["-I", "-S", least_tools.__file__], "alwaysLoad": True}
    config = json.dumps({"mcpServers": {"colony": server} if uses_tool else {}})
    options = ["--strict-mcp-config", "--mcp-config", config, "--tools", TOOLS]
    options += ["--dangerously-skip-permissions", "--disable-slash-commands"]
    began = time.perf_counter()
    run = run_claude(claude, api, home, "please", *options, **BOUNDS)
    seconds = time.perf_counter() - began
    if run.result["result"] != REPLY:
        raise RuntimeError(f"claude -p answered {run.result['result']!r}")
    return seconds


def colony(home: house.House) -> float:
    """Seconds that an agent of the house takes, as `answered` has them."""
    try:
        return answered(home.socket, home.ann, "quiet", AGENT)
    except RuntimeError as error:
        raise RuntimeError(f"{error}:\n{_last_words(home)}") from error


def answered(server: Path, token: str | None, channel: str, agent: str) -> float:
    """Seconds from just before a mention is posted until its reply can be read."""
    connection = wire.Connection(server)
    path = f"/api/channels/{channel}/messages"
    began = time.perf_counter()
    posted = connection.ask(wire.request("POST", path, token, {"body": f"@{agent} please"}))
    answer = connection.ask(wire.request("GET", f"{path}?since={posted['seq']}&wait={WAIT_SECONDS}", token))
    seconds = time.perf_counter() - began
    connection.close()
    said = [message["body"] for message in answer["messages"]]
    if said != [REPLY]:
        raise RuntimeError(f"{agent} answered {said} in {WAIT_SECONDS} s")
    return seconds


def added(
    what: str, pairs: Sequence[tuple[float, float]], sides: tuple[str, str], budget: float = BUDGET_SECONDS, note: str = ""
) -> Figure:
    """How many seconds the second of two sides takes more than the first."""
    less, more = (median(side) for side in zip(*pairs, strict=True))
    seconds = median(ours - theirs for theirs, ours in pairs)
    return Figure(
        what,
        f"{seconds:.2f} s ({more:.2f} − {less:.2f}{note})",
        f"≤ {budget} s",
        seconds <= budget,
        values={"added_seconds": seconds, f"{sides[0]}_seconds": less, f"{sides[1]}_seconds": more},
    )


def kind(uses_tool: bool) -> str:
    return "one tool call" if uses_tool else "plain reply"


def _last_words(home: house.House) -> str:
    return (home.home / "agents" / f"{AGENT}.log").read_text(errors="replace")[-1500:]
