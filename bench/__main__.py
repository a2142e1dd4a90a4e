"""`python -m bench`: the table of figures, each beside its budget and the peers'."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import chat, egress, fairness, history, host, idle, machine, posts, report, sealed, turn, wake
from bench.figures import Figure, Measurement, Missing, Plan

MEASUREMENTS: dict[str, Measurement] = {
    "wake": wake.measure,
    "posts": posts.measure,
    "chat": chat.measure,
    "idle": idle.measure,
    "turn": turn.measure,
    "history": history.measure,
    "fairness": fairness.measure,
    "host": host.measure,
    "egress": egress.measure,
    "sealed": sealed.measure,
}
WIDTH = 180  # where no terminal says otherwise


def main() -> int:
    """0 if every budget is met, 1 if one is missed, 2 if a measurement broke, 130 after Ctrl-C."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that every process is ended
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    facts = machine.facts()
    figures: list[Figure] = []
    broken: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="colony-bench-") as folder:
            messages = options.history or (100_000 if options.quick else 10_000_000)
            plan = Plan(Path(folder), options.quick, messages, options.rest or (10.0 if options.quick else 60.0))
            for name in options.only or MEASUREMENTS:
                _talk(f"measuring {name} …")
                try:
                    figures += _told(MEASUREMENTS[name](plan))
                except (Missing, OSError, RuntimeError, TimeoutError) as error:
                    broken[name] = str(error)
    except KeyboardInterrupt:
        return 130
    console.print(_table(figures))
    console.print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    for name, problem in broken.items():
        _talk(f"{name} could not be measured: {problem}")
    document = {
        "command": " ".join(["make bench", *([f'ARGS="{" ".join(sys.argv[1:])}"'] if sys.argv[1:] else [])]),
        "machine": facts,
        "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in figures],
        "broken": broken,
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if options.write:
        report.write(options.write, document)
    return 2 if broken else int(any(figure.is_met is False for figure in figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = ", ".join(MEASUREMENTS)
    parser.add_argument("--only", metavar="NAME", action="append", choices=MEASUREMENTS, help=f"one of {names}; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute and a half, and rougher")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here, too")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="write them there: a page, its plot and its JSON")
    parser.add_argument("--history", metavar="MESSAGES", type=int, help="in the large history (default: 10,000,000; 100,000 when quick)")
    parser.add_argument("--rest", metavar="SECONDS", type=float, help="for which a host is left in peace (default: 60; 10 when quick)")
    return parser.parse_args()


def _told(figures: Iterator[Figure]) -> Iterator[Figure]:
    for figure in figures:
        _talk(f"  {figure.what}: {figure.figure} {figure.verdict}")
        yield figure


def _talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(figures: list[Figure]) -> Table:
    table = Table(title="Colony beside its budgets and its peers", title_justify="left")
    for heading in ("what", "figure", "budget", "verdict", "peers"):
        table.add_column(heading, overflow="fold")
    colours = {"met": "green", "missed": "red"}
    for figure in figures:
        verdict = f"[{colours[figure.verdict]}]{figure.verdict}" if figure.verdict else ""
        table.add_row(figure.what, figure.figure, figure.budget, verdict, figure.peers)
    return table


if __name__ == "__main__":
    sys.exit(main())
