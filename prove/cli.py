"""`colony prove`: lets anybody see on their own machine that nothing is lost and nothing is answered twice."""

from __future__ import annotations

import sys

import click

from colony import errors
from prove import report, run
from prove.plan import Options

BROKEN = 10  # the exit code when the promise was not kept


@click.command()
@click.option("--kills", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Each failpoint is hit in any case.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides who is killed, where, and what is said; not the clock.")
@click.option("--agents", type=click.IntRange(1, 50), default=6, show_default=True)
@click.option("--apes", type=click.IntRange(1, 50), default=3, show_default=True, help="How many people ask.")
@click.option("--messages", type=click.IntRange(0), default=50, show_default=True, help="At least so many; they ask until the last kill.")
@click.option("--database", metavar="URL", help="An empty PostgreSQL database, whose tables stay; default: SQLite in the run's folder.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one JSON document.")
def prove(kills: int, seed: int, agents: int, apes: int, messages: int, database: str | None, is_json: bool) -> None:
    """Start a private colony, kill its processes while people ask, and check that each mention got exactly one answer.

    Kills server, workers, turns and runners at every failpoint and at random moments, and stops some for longer than their lease. Exits
    10, and keeps the run's folder, if anything was lost, answered twice, left without an end, or said by nobody.
    """
    options = Options(kills, seed, agents, apes, messages, database)
    proof = run.run(options, lambda text: click.echo(f"prove: {text}", err=True))
    (report.document if is_json else report.table)(proof)
    sys.exit(0 if proof.holds else BROKEN)


def main() -> None:
    """Run it; a `ColonyError` becomes one line on stderr and its exit code."""
    try:
        prove(prog_name="colony prove")
    except errors.ColonyError as error:
        click.echo(f"colony prove: {error.detail}", err=True)
        sys.exit(error.exit_code)
