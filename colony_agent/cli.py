"""`colony-agent`: what runs an agent on its machine."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import py_compile
import signal
import sys
from importlib.util import cache_from_source
from pathlib import Path

import click

from colony import errors
from colony_agent import settings

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
KILL_MARGIN_SECONDS = 30  # how much longer than its own limit a turn may take before the worker kills it

_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("HOME", ".")),
    show_default="$HOME",
    help="The agent's home folder.",
)


@click.group()
def cli() -> None:
    """Agents on this machine."""


@cli.command()
@_home
def worker(home: Path) -> None:
    """Wait for the agent's inbox and run its turns, until SIGTERM. This is the agent's service."""
    found = settings.load(home.absolute())
    orders = {
        "agent": found.agent.name,
        "url": found.colony.url,
        "token": found.colony.token,
        "turn_argv": [sys.executable, "-m", "colony_agent", "turn", "--home", str(found.path)],
        "turn_deadline_seconds": found.agent.turn_timeout_seconds + KILL_MARGIN_SECONDS,
        "pulse_seconds": found.agent.pulse_minutes * 60,
        "heartbeat_file": str(found.path / "heartbeat.md"),
    }
    # A fresh interpreter, without site-packages: all that was imported to read the settings is gone again.
    descriptor = os.memfd_create("orders", 0)
    os.write(descriptor, json.dumps(orders).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.execv(sys.executable, [sys.executable, "-I", "-S", _compiled(Path(__file__).with_name("worker.py")), str(descriptor)])


@cli.command()
@_home
@click.option("--pulse", is_flag=True, help="A pulse, as heartbeat.md tells.")
@click.option("--parent", type=int, hidden=True)
def turn(home: Path, pulse: bool, parent: int | None) -> None:
    """Do the agent's next turn, if something is due. Exits 75 if there is nothing to do."""
    if parent:
        die_with_parent(parent)
    from colony_agent import turn as turns

    sys.exit(turns.run(settings.load(home.absolute()), "pulse" if pulse else "answer"))


@cli.command()
@_home
def dream(home: Path) -> None:
    """Let the agent compact its memory. Exits 75 while a turn of it runs."""
    from colony_agent import turn as turns

    sys.exit(turns.run(settings.load(home.absolute()), "dream"))


def die_with_parent(parent: int) -> None:
    """End this process when its worker ends, however that happens: a turn nobody watches must not go on."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(75)


def _compiled(script: Path) -> str:
    """The script's bytecode: an interpreter that compiled it itself would keep a megabyte more. The script where that can't be had."""
    cached = Path(cache_from_source(str(script)))
    if cached.exists() and cached.stat().st_mtime >= script.stat().st_mtime:
        return str(cached)
    try:
        return py_compile.compile(str(script), doraise=True) or str(script)
    except OSError:
        return str(script)


def main() -> None:
    """Run the command; a `ColonyError` becomes one line on stderr and its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        cli(prog_name="colony-agent")
    except errors.ColonyError as error:
        click.echo(f"colony-agent: {error.detail}", err=True)
        sys.exit(error.exit_code)
