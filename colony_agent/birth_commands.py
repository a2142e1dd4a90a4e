"""`colony-agent birth` and `death`: an agent comes to this machine, and leaves it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from colony import errors

_dry_run = click.option("--dry-run", is_flag=True, help="Show the steps, and change nothing.")
_json = click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")


@click.command("birth")
@click.argument("name")
@click.option("--soul", "soul_file", type=click.Path(path_type=Path), help="The Markdown file it is born from.")
@click.option("--from", "archive", type=click.Path(path_type=Path), help="The archive of a home that becomes its own; a soul comes first.")
@click.option("--repo", metavar="URL|PATH", help="A repository of which it gets a clone; '': of none, though it had one before.")
@click.option("--runner", metavar="claude|command:…", help="What thinks; default: as the soul says, else claude.")
@click.option("--sandbox", metavar="bwrap|podman[:IMAGE]", help="Where it thinks; default: as the soul says, else bwrap.")
@click.option("--memory-max", metavar="SIZE", help="The most memory of all its processes, like 4G.")
@click.option("--home-max", metavar="SIZE", help="The most that its home may hold, like 10G.")
@click.option("--watch", metavar="CHANNEL", multiple=True, help="It gets every message of this channel, besides the soul's.")
@click.option("--owner", metavar="NAME", help="The person who pauses, resumes and limits it; default: who called sudo, if they are one.")
@click.option("--no-start", is_flag=True, help="Make all ready; a second birth brings it to life.")
@_dry_run
@_json
def birth(
    name: str,
    soul_file: Path | None,
    archive: Path | None,
    repo: str | None,
    runner: str | None,
    sandbox: str | None,
    memory_max: str | None,
    home_max: str | None,
    watch: tuple[str, ...],
    owner: str | None,
    no_start: bool,
    dry_run: bool,
    is_json: bool,
) -> None:
    """Bring an agent to life on this machine: a Linux user, a home, a service. Safe to repeat."""
    from colony_agent import birth_wish
    from colony_agent.birth_wish import Said
    from provisioning import agents, facts, soul, unpacking
    from provisioning.show import Show

    facts.require_root()
    if soul_file is None and archive is None:
        raise errors.Invalid("give the soul that it is born from, --soul FILE, or the archive of its home, --from ARCHIVE")
    show = Show(is_json, dry_run)
    said = Said(
        name=name,
        soul=soul.load(soul_file) if soul_file else None,
        kept=unpacking.read(archive.absolute()) if archive else None,
        repo=repo,
        runner=runner,
        sandbox=sandbox,
        rooms={key: size for key, size in {"memory_max": memory_max, "home_max": home_max}.items() if size is not None},
        watch=watch,
        owner=owner,
        start=not no_start,
    )
    steps = agents.bear(birth_wish.made(said, os.environ.get("SUDO_USER")), show.step, dry_run=dry_run)
    lives = f"{name} lives; talk to it: colony post general '@{name} …'"
    lived = f"{name} lives already; to change how: colony-agent soul set {name} {soul_file or 'FILE'}"
    show.end(steps, lived, f"{name} is ready; without --no-start it comes to life" if no_start else lives)


@click.command("death")
@click.argument("name")
@click.option("--purge", is_flag=True, help="Keep no archive of its home.")
@_dry_run
@_json
def death(name: str, purge: bool, dry_run: bool, is_json: bool) -> None:
    """End an agent: its services, its home and its Linux user go; what it said stays."""
    from provisioning import agents, credentials, facts
    from provisioning.host import gate
    from provisioning.show import Show

    facts.require_root()
    show = Show(is_json, dry_run)
    had_credentials = name in credentials.stored()
    steps = agents.bury(name, show.step, purge=purge, dry_run=dry_run)
    if had_credentials and not dry_run:
        gate.renew()  # else whoever is born again under that name would think with them
    show.end(steps, f"{name} is dead")
