"""docs/comes-back.md: the table of blows with what a whole run has seen, which is kept in docs/comes-back.json.

`python -m tests.host.page` makes the page again from the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import machine
from tests.guest.places import locked
from tests.host import strikes
from tests.host.blows import ALL, Blow

DOCS = Path(__file__).parents[2] / "docs"
PAGE, SEEN = DOCS / "comes-back.md", DOCS / "comes-back.json"


def note(blow: Blow, seconds: float) -> None:
    """What it took this time; the page then shows it."""
    with locked(DOCS):
        document = _read() | {"outage_seconds": strikes.OUTAGE_SECONDS}
        for kind, new in (("seen", round(seconds, 1)), ("on", _here())):
            found = document[kind] | {blow.title: new}
            document[kind] = {each.title: found[each.title] for each in ALL if each.title in found}
        SEEN.write_text(json.dumps(document, indent=2) + "\n")
        PAGE.write_text(made())


def seen() -> dict[str, float]:
    return dict(_read()["seen"])


def made() -> str:
    """The page."""
    document = _read()
    rows = [f"| {blow.title} | {blow.back_by} | {blow.within:g} | {document['seen'].get(blow.title, '')} |" for blow in ALL]
    machines = sorted({*document["on"].values()})
    where = "Machine" if len(machines) == 1 else "The rows were not all measured on the same machine"
    return f"""\
# What a colony comes back from

Made by `{strikes.WHOLE}=1 make test ARGS="-k comes_back"` from the table that the tests strike by
([`blows.py`](../tests/host/blows.py)) and from what they saw ([`comes-back.json`](comes-back.json)).

Each blow falls on a machine with a real systemd, the colony installed, two agents and three people who talk with them before, during and
after it. Nobody helps. Afterwards every message has exactly one answer, or exactly one notice with the reason why there is none, and
`colony explain` says so; nothing was said twice; no unit has failed, `colony-server check` finds nothing, `colony-agent status` shows no
trouble. The seconds count from the end of the blow until all of that is true and whatever was said in the meantime is answered; the
first row shows what that takes where nothing has happened.

{where}: {"; or ".join(machines)}. The server was down for {document["outage_seconds"]} s.

| what befalls it | what brings it back | s at most | s seen |
|---|---|---|---|
{chr(10).join(rows)}

"In a turn" means that both agents were thinking when it came; "with Claude Code" that they are the real one, which asks a stand-in of the
model's API through the gate and speaks by its tools, while in other rows a small program thinks. The tests show two things besides: a dream
that is killed, or cut off by a loss of power, at whatever moment leaves the old memory or the new one, whole; and a birth that is cut off
is completed by another one.

## What lies behind it

- **Watchdogs.** The server and the gate must answer themselves once a minute, at their sockets, and a worker every 90 s, or systemd kills
  them and starts them anew.
- **A gate that is away** is bridged for two seconds. After that the turn is handed back, its channel told that it waits, and a minute later
  it is begun again; that costs it no attempt.
- **Start limits.** A service that falls over five times within a minute rests. `colony-watch` tells #ops, starts it again after some 2, 6
  and then each 16 minutes, and tells #ops when it is well.
- **Clocks.** Leases are renewed, long polls end and watchdogs bite by a clock that nobody can set. Only what must outlive a restart is
  kept as a time of day: the end of a rest, of a hold, of a lease. A server that notices that its clock was set back lets all of those
  look again at once; what still has to wait is told so anew. When the clock jumps, nobody is called silent for the hours that were
  skipped. A clock that is wrong by days takes with it what depends on the day: budgets begin anew, `prune` forgets handled items early.
- **What is killed in the middle** of a dream, a backup or a prune is begun again after ten seconds, a look of `colony-watch` after
  five. One that fails by itself waits for its next time.
"""


def _here() -> str:
    """This machine, as far as it stays the same from row to row."""
    return ", ".join(f"{name}: {value}" for name, value in machine.facts().items() if name != "load before")


def _read() -> dict[str, Any]:
    return json.loads(SEEN.read_text()) if SEEN.exists() else {"outage_seconds": 0, "seen": {}, "on": {}}


if __name__ == "__main__":
    PAGE.write_text(made())
