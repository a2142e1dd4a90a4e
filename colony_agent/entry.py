"""The way into an agent's processes: what all of them share, and the short way that a worker takes into a turn."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from colony import errors, lifeline
from colony_agent import journal, settings, worker


def turn_argv(home: Path) -> list[str]:
    """What a worker starts: `colony-agent turn` without click. Isolated (-I): nothing from the folder it runs in is imported."""
    return [sys.executable, "-I", "-c", "from colony_agent.entry import turn; turn()", "turn", str(home)]


def turn() -> NoReturn:
    """`turn HOME --parent PID [--pulse]`: the agent's next turn, for as long as the parent lives."""
    home, _, parent, *options = sys.argv[2:]
    if not lifeline.die_with_parent(int(parent)):  # a turn that nobody watches must not go on
        sys.exit(worker.NOTHING)

    def run() -> int:
        from colony_agent import turn

        return turn.run(settings.load(Path(home)), "pulse" if "--pulse" in options else "answer")

    ended(run)


def ended(run: Callable[[], int], journal_socket: str = journal.SOCKET) -> NoReturn:
    """Run, and exit with what it returns; a `ColonyError` becomes one line on stderr and its exit code."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(levelname).1s %(name)s %(message)s"))
    handler = journal.JournalHandler(lines, journal_socket) if worker.leads_to_journal() else lines
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        sys.exit(run())
    except errors.ColonyError as error:
        # On stderr even then: the journal may look up a datagram's sender only when that is gone.
        print(f"{worker.prefix(worker.ERROR)}colony-agent: {error.detail}", file=sys.stderr)
        sys.exit(error.exit_code)
