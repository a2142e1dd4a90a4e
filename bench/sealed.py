"""What the seal adds to a turn: the same question to an agent on a host, and to one in a house without a gate.

On the host the turn runs in the agent's hardened service and has no network but the gate, which judges, adds the key, meters each question
to the model and books it with the server. In the house (see `turn`) the sandbox shares the network and holds the key. The bare CLI, house
and host take turns, so that what else the machine does meets all three.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import agents, host, house, turn
from bench.figures import Figure, Missing, Plan
from colony.config import HOST_SOCKET
from tests.guest.guest import why_not
from tests.guest.network import made_inside
from tests.host.cast import birth, until
from tests.standin import Standin
from tests.standin.claude import claude_binary

ADDED_BUDGET_SECONDS = 0.15
SOUL = "/opt/brains/thinker.md"
SOUL_TEXT = "---\nrunner: claude\nmodel: claude-test\npulse_minutes: 0\n---\nAnswer briefly.\n"
AGENT, CHANNEL = "thinker", "general"
WELCOMED_WITHIN = 30.0  # seconds


def measure(plan: Plan) -> Iterator[Figure]:
    """Raises `Missing`."""
    if reason := why_not():
        raise Missing(reason)
    try:
        claude = claude_binary()
    except FileNotFoundError as error:
        raise Missing(str(error)) from error
    model = turn.Model()
    with _stage(plan, model, claude) as (ann, server, api, home):
        bare_home = Path(tempfile.mkdtemp(prefix="bare-", dir=plan.folder))
        for model.uses_tool in (False, True):
            rounds = [
                (turn.bare(claude, api, bare_home, model.uses_tool), turn.colony(home), turn.answered(server, ann, CHANNEL, AGENT))
                for _ in range(1 + plan.fewer(15, 4))
            ]
            yield from _figures(rounds[1:], turn.kind(model.uses_tool))  # the first ones fill caches


@contextmanager
def _stage(plan: Plan, model: turn.Model, claude: Path) -> Iterator[tuple[str, Path, Standin, house.House]]:
    """A person's token on a host where an agent was born, the socket there, the stand-in of bare CLI and house, and that house."""
    with ExitStack() as stack:
        machine = stack.enter_context(host.machine())
        far, near = stack.enter_context(made_inside(machine, Standin)), stack.enter_context(Standin())
        far.script(model)
        near.script(model)
        machine.run("colony-agent", "credential", "set", "ANTHROPIC_API_KEY", stdin="sk-ant-standin")
        machine.run("colony-agent", "credential", "set", "ANTHROPIC_BASE_URL", stdin=far.url)
        machine.write(SOUL, SOUL_TEXT)
        birth(machine, AGENT, soul=SOUL)
        until(lambda: far.requests, WELCOMED_WITHIN)
        home, _ = stack.enter_context(house.open_house(plan, 1))
        path = agents.settle(home, turn.AGENT, {"claude": str(claude)})
        stack.enter_context(agents.working(path, {"ANTHROPIC_BASE_URL": near.url, "ANTHROPIC_API_KEY": "sk-ant-standin"}))
        machine.run("colony", "create-user", "ann", "--kind", "ape")
        yield machine.run("colony", "token", "ann").stdout.strip(), machine.path(HOST_SOCKET), near, home


def _figures(rounds: list[tuple[float, float, float]], kind: str) -> Iterator[Figure]:
    through = f"on a host, through gate and metering: added to a bare claude -p, {kind}"
    yield turn.added(through, [(bare, sealed) for bare, _, sealed in rounds], ("bare", "sealed"))
    by_seal = [(open_, sealed) for _, open_, sealed in rounds]
    yield turn.added(f"of which the seal adds, {kind}", by_seal, ("open", "sealed"), ADDED_BUDGET_SECONDS, " in a house without a gate")
