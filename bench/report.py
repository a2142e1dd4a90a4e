"""Writes a run down: `performance.json`, and made from it alone `performance.md` with its plot.

`python -m bench.report docs` makes the page again from the JSON that is there.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a reader must know when a budget is missed, by how the figure's name begins. No numbers: they belong to a run.
REASONS = {
    "mention → awake": """\
Called in one process, the post and the look at the inbox are a small part of this; an answer of `/healthz`, which does next to nothing,
takes a good part of it. So the rest is mostly the way of two requests through gunicorn's parser and threads. Needed: a parser that is
compiled; what that would save has not been measured.""",
    "server with": """\
Each agent that waits holds a thread of the server. The rest is the interpreter with Flask, SQLAlchemy and pydantic, and the code for
rights, secrets and approvals, which a colony without any of them loads as well. Needed: less of that at the start.""",
    "the egress gate at rest": """\
Most of it is the interpreter with pydantic, asyncio and the client of the server. What ends TLS and what reads large questions is loaded
when it is first needed. Needed: a schema without pydantic.""",
    "posts/s, one mention": """\
A post does four statements, one of them for the audit, where the bare endpoint does one insert, and its request is checked field by
field. Both share the parsing of HTTP and the commit. Needed: less Python per statement; what that would save has not been measured.""",
    "posts/s to": """\
Above a mention this is fifty more rows with their index entries and foreign keys. Nothing is acknowledged during the measurement, so the
index of open items grows. Without foreign keys, without one of the indexes, or with other settings of SQLite the difference was within
the noise, so what would be needed is not known.""",
    "added to a bare": """\
The runtime starts a Python process, a sandbox and a tool server, for which Claude Code waits when it ends; the imports of the colony's
client overlap with its start. Needed: a process that waits with everything loaded, which an idle agent's memory budget rules out.""",
    "on a host": """\
What the runtime adds in a house, and what the seal adds: a forwarder before the program, the proxy's variables, which Claude Code reads,
and a booking that is written to disk before each question goes out. Claude Code without tools needs none of the tools' processes either,
which the colony starts for each turn. Needed: the same as in a house.""",
    "heartbeat": "A heartbeat writes, so this also shows how fast the disk answers an fsync; run it again when nothing else writes.",
}
WAITING = {"p50_seconds", "proportional_bytes"}  # what grows with the agents that wait
NO_REASON = "The reason has not been looked into."


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """The results with their page and plot, in place of those of an earlier run."""
    (folder / "performance.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    remake(folder)


def remake(folder: Path) -> None:
    from bench import plot  # what draws is only needed here

    document = json.loads((folder / "performance.json").read_text())
    plot.draw(document["figures"], folder / "performance.svg")
    (folder / "performance.md").write_text(page(document))


def page(document: Mapping[str, Any]) -> str:
    figures = document["figures"]
    rows = [f"| {' | '.join(_cell(each[name]) for name in ('what', 'figure', 'budget', 'verdict', 'peers'))} |" for each in figures]
    machine = ", ".join(f"{name}: {value}" for name, value in document["machine"].items())
    return f"""\
# Performance

Made by `{document["command"]}` from its own results ([`performance.json`](performance.json)); no number here is typed by hand.

Machine: {machine}.
Load generator, server and peers share it. Every comparison is made in the same run and is best read as the ratio.

| what | measured | budget | | peers, in the same run |
|---|---|---|---|---|
{chr(10).join(rows)}

Where two times stand together, they are the median and the 99th percentile.

## How it grows

![Wake latency and server memory by the number of waiting agents; queries by the number of messages](performance.svg)

{_growth(figures)}

## What is missed, and why

{_missed(document)}

## Repeat it

`make bench` prints this table; `make bench ARGS="--write docs"` writes this page, too. `ARGS=--quick` is faster and
rougher, `ARGS="--only wake"` measures one part. On a shared machine, look at the ratios, and run it more than once.
"""


def _growth(figures: list[dict[str, Any]]) -> str:
    waiting: dict[float, dict[str, float]] = defaultdict(dict)
    for each in figures:
        if "agents" in each["values"] and WAITING & each["values"].keys():
            waiting[each["values"]["agents"]] |= each["values"]
    lines = ["| agents waiting | wake p50, ms | p99, ms | server memory (PSS), MB |", "|---|---|---|---|"]
    for agents, values in sorted(waiting.items()):
        lines.append(
            f"| {agents:.0f} | {values['p50_seconds'] * 1e3:.1f} | {values['p99_seconds'] * 1e3:.1f} "
            f"| {values['proportional_bytes'] / 2**20:.0f} |"
        )
    past = [each for each in figures if "messages" in each["values"]]
    sizes = sorted({each["values"]["messages"] for each in past})
    heads = " | ".join(f"{size:,} messages" for size in sizes)
    lines += ["", f"| query, × without a past | {heads} |", "|---" * (len(sizes) + 1) + "|"]
    for name in dict.fromkeys(each["what"].split(",")[0] for each in past):
        by_size = {each["values"]["messages"]: each["values"]["ratio"] for each in past if each["what"].startswith(f"{name},")}
        lines.append(f"| {name} | " + " | ".join(f"{by_size[size]:.2f}" for size in sizes) + " |")
    return "\n".join(lines)


def _missed(document: Mapping[str, Any]) -> str:
    missed = [each for each in document["figures"] if each["is_met"] is False]
    told = [f"**{each['what']}**: {each['figure']}, wanted {each['budget']}. {_reason(each['what'])}" for each in missed]
    told += [f"**{name}** could not be measured: {problem}." for name, problem in document["broken"].items()]
    return "\n\n".join(told) or "Nothing, in this run."


def _reason(what: str) -> str:
    return next((" ".join(reason.split()) for name, reason in REASONS.items() if what.startswith(name)), NO_REASON)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    remake(Path(sys.argv[1]))
