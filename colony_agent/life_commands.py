"""What people do with the agents that live on this machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from colony import errors, pipe, schema, show
from colony.story import Words

if TYPE_CHECKING:
    from provisioning.status import Life, Overview

WATCH_SECONDS = 2.0
CLEAR = "\x1b[H\x1b[2J"
# A column in which nobody has anything is left out.
COLUMNS = ("agent", "state", "worker", "memory", "restarts", "inbox", "oldest", "heard", "works in", "turns", "usd", "owner")

_json = click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")
_name = click.argument("name")
_names = click.argument("names", metavar="NAME...", nargs=-1)
_everyone = click.option("--all", "everyone", is_flag=True, help="All agents of this machine.")


@click.command()
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@_json
def status(name: str | None, watch: bool, is_json: bool) -> None:
    """Show how the agents of this machine are, or one of them."""
    from provisioning import status as states
    from provisioning.systemd import Systemd

    with Systemd() as systemd:
        while True:
            overview = states.read(systemd, name)
            if watch:
                click.echo(CLEAR, nl=False)
            _show(overview, is_json)
            if not watch:
                return
            pipe.flush()
            time.sleep(WATCH_SECONDS)


@click.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True)
def logs(name: str, follow: bool, lines: int) -> None:
    """Show what the agent's worker, turns and dreams wrote into the journal."""
    from provisioning import places, record, units

    record.checked_name(name)
    if not (places.UNITS / units.worker(name)).exists():
        click.echo(f"colony-agent: no agent {name} lives on this machine; what follows is from its former life, if it had one", err=True)
    which = (f"--unit={units.worker(name)}", f"--unit={units.dream(name)}")
    os.execvp("journalctl", ["journalctl", *which, f"--lines={lines}", *(["--follow"] if follow else [])])


def _moves(name: str, status: schema.Status, help: str) -> click.Command:
    @click.command(name, help=help)
    @_names
    @_everyone
    @click.option("--note", default="", help="Why; shown with the agent.")
    def move(names: Sequence[str], everyone: bool, note: str) -> None:
        from colony import operations
        from provisioning import local

        with local.client() as client:

            def set_status(name: str) -> None:
                client.call(operations.SET_STATUS, schema.SetStatus(agent=name, status=status, note=note))

            _for_each(_named(names, everyone), set_status, f"is {status}")

    return move


pause = _moves("pause", "paused", "Let agents rest: what waits for them waits on.")
resume = _moves("resume", "healthy", "Let agents work again.")
drain = _moves("drain", "draining", "Let agents hand back their work and take no more.")


@click.command()
@_names
@_everyone
def restart(names: Sequence[str], everyone: bool) -> None:
    """Restart workers; a turn that runs is handed back, and goes on afterwards."""
    from provisioning import facts, units
    from provisioning.systemd import Systemd

    facts.require_root()
    with Systemd() as systemd:

        def begin(name: str) -> None:
            _require_born(name)
            systemd.start([units.worker(name)], restart=True)

        _for_each(_chosen(names, everyone), begin, "runs again")


@click.command()
@_names
@_everyone
@click.option("--now", is_flag=True, help="Don't wait for a running turn: it is handed back, and goes on afterwards.")
def upgrade(names: Sequence[str], everyone: bool, now: bool) -> None:
    """Bring agents to the present release: new code, units and rules. What does not come back runs as before."""
    from provisioning import facts, renewal
    from provisioning import upgrade as upgrading

    facts.require_root()
    patience = 0.0 if now else renewal.IDLE_SECONDS
    _for_each(_chosen(names, everyone), lambda name: bool(upgrading.upgrade(name, idle_seconds=patience)), "runs the present release")


@click.command()
@_names
@_everyone
@click.option(
    "--keep", metavar="N", type=click.IntRange(1), help="How many of each agent's are left; default: as server.toml says, else 7."
)
def backup(names: Sequence[str], everyone: bool, keep: int | None) -> None:
    """Archive homes as they are, each with the host's record of its agent. `birth --from` brings one back."""
    from provisioning import backup as backups
    from provisioning import facts
    from provisioning.host import settings

    facts.require_root()
    homes = (settings.read() or settings.ServerSettings()).homes

    def make(name: str) -> None:
        made = backups.make(name, keep or homes.keep, homes.max_mb * 10**6)
        click.echo(made.says)
        if made.lacks:
            click.echo(f"colony-agent: {name}: left out: {made.lacks}", err=True)

    _for_each(_chosen(names, everyone), make)


def dream_now(name: str | None, is_wanted: bool) -> int:
    """Start the agent's dream service and wait for its end; 75 when it has nothing to dream of, or no time."""
    from provisioning import facts, units
    from provisioning.systemd import Systemd

    if not name or not is_wanted:
        raise errors.Invalid("give both a name and --now; the dreams of its timer come by themselves")
    facts.require_root()
    _chosen([name], False)
    _require_born(name)
    with Systemd() as systemd:
        ended = systemd.run(units.dream(name))
    if ended.active == "failed":
        raise errors.Unavailable(f"the dream failed, the memory is as it was; see colony-agent logs {name}")
    if ended.exit_code:
        why = ended.says or f"colony-agent logs {name} says why"  # its units may be of a release that told nothing
        click.echo(show.line(f"{name} does not dream now: {why}"), err=True)
    else:
        click.echo(f"{name} has dreamt")
    return ended.exit_code


def _named(names: Sequence[str], everyone: bool) -> Sequence[str]:
    from provisioning import record

    if bool(names) == everyone:
        raise errors.Invalid("name one or more agents, or give --all")
    if not everyone:
        return names
    found = record.names()
    if not found and os.geteuid() != 0:
        raise errors.Forbidden("only root knows all agents of this machine; name those that are yours")
    return found


def _chosen(names: Sequence[str], everyone: bool) -> Sequence[str]:
    """Raises `NotFound` for who does not live here."""
    from provisioning import record

    wanted, known = _named(names, everyone), record.names()
    if missing := [name for name in names if name not in known]:
        raise errors.NotFound(f"no agent {', '.join(missing)} lives on this machine" + (f"; here live {', '.join(known)}" if known else ""))
    return wanted


def _require_born(name: str) -> None:
    """Raises `Conflict` for one that was only made ready."""
    from provisioning import record

    found = record.read(name)
    if found and not found.is_born:
        raise errors.Conflict(f"{name} was never born to the end; colony-agent birth {name}, without --no-start, completes it")


def _for_each(names: Sequence[str], work: Callable[[str], object], done: str = "") -> None:
    """One that fails keeps no other from its turn; of others it is said what is `done`, if anything. Raises the last error."""
    failed: errors.ColonyError | None = None
    for name in names:
        try:
            work(name)
            if done:
                click.echo(f"{name} {done}")
        except errors.ColonyError as error:
            click.echo(f"colony-agent: {error.detail}", err=True)
            failed = error
    if failed:
        raise click.exceptions.Exit(failed.exit_code)


def _show(overview: Overview, is_json: bool) -> None:
    if is_json:
        click.echo(json.dumps([_document(life) for life in overview.agents]))
        return
    if not overview.agents:
        click.echo("colony-agent: no agents live here yet; sudo colony-agent birth NAME --soul FILE", err=True)
    if overview.excuse:
        click.echo(f"colony-agent: {overview.excuse}", err=True)
    troubles = [Words((f"{life.name}: {life.trouble}",)) for life in overview.agents if life.trouble]
    show.write([show.Table(COLUMNS, [_row(life) for life in overview.agents]), *troubles])


def _row(life: Life) -> tuple[show.Cell, ...]:
    memory = f"{life.worker.memory_bytes / 2**20:.0f} MB" if life.worker.memory_bytes is not None else None
    seen = [life.name, life.state, life.worker.active, memory, life.worker.restarts or None]
    agent = life.member
    if agent is None:
        return (*seen, None, None, None, None, None, None, None)
    known = [agent.inbox, agent.oldest_item_at, agent.last_seen_at, agent.turn_channel, agent.turns_today]
    return (*seen, *known, round(agent.cost_usd_today, 2) or None, agent.owner)


def _document(life: Life) -> dict[str, object]:
    member = life.member.model_dump(mode="json") if life.member else None
    return {"name": life.name, "worker": asdict(life.worker), "dream": asdict(life.dream), "member": member, "trouble": life.trouble}
