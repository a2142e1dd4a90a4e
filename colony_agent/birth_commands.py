"""`colony-agent birth` and `death`: an agent comes to this machine, and leaves it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colony import errors

if TYPE_CHECKING:
    from provisioning.soul import Soul
    from provisioning.wish import Wish

_dry_run = click.option("--dry-run", is_flag=True, help="Show the steps, and change nothing.")
_json = click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")


@click.command("birth")
@click.argument("name")
@click.option("--soul", "soul_file", type=click.Path(path_type=Path), required=True, help="The Markdown file it is born from.")
@click.option("--repo", metavar="URL|PATH", default="", help="A repository of which it gets a clone.")
@click.option("--runner", metavar="claude|command:…", help="What thinks; default: as the soul says, else claude.")
@click.option("--memory-max", metavar="SIZE", help="The most memory of all its processes, like 4G.")
@click.option("--home-max", metavar="SIZE", help="The most that its home may hold, like 10G.")
@click.option("--watch", metavar="CHANNEL", multiple=True, help="It gets every message of this channel, besides the soul's.")
@click.option("--owner", metavar="NAME", help="The person who pauses, resumes and limits it; default: who called sudo, if they are one.")
@click.option("--no-start", is_flag=True, help="Make all ready; a second birth brings it to life.")
@_dry_run
@_json
def birth(
    name: str,
    soul_file: Path,
    repo: str,
    runner: str | None,
    memory_max: str | None,
    home_max: str | None,
    watch: tuple[str, ...],
    owner: str | None,
    no_start: bool,
    dry_run: bool,
    is_json: bool,
) -> None:
    """Bring an agent to life on this machine: a Linux user, a home, a service. Safe to repeat."""
    from provisioning import agents, facts, soul
    from provisioning.show import Show

    facts.require_root()
    show = Show(is_json, dry_run)
    rooms = {"memory_max": memory_max, "home_max": home_max}
    wish = _wish(name, soul.load(soul_file), repo, runner, rooms, watch, owner, start=not no_start)
    steps = agents.bear(wish, show.step, dry_run=dry_run)
    lives = f"{name} lives; talk to it: colony post general '@{name} …'"
    lived = f"{name} lives already; to change how: colony-agent soul set {name} {soul_file}"
    show.end(steps, lived, f"{name} is ready; without --no-start it comes to life" if no_start else lives)


@click.command("death")
@click.argument("name")
@click.option("--purge", is_flag=True, help="Keep no archive of its home.")
@_dry_run
@_json
def death(name: str, purge: bool, dry_run: bool, is_json: bool) -> None:
    """End an agent: its services, its home and its Linux user go; what it said stays."""
    from provisioning import agents
    from provisioning.show import Show

    show = Show(is_json, dry_run)
    show.end(agents.bury(name, show.step, purge=purge, dry_run=dry_run), f"{name} is dead")


def _wish(
    name: str,
    soul: Soul,
    repo: str,
    runner: str | None,
    rooms: Mapping[str, str | None],
    watch: Sequence[str],
    owner: str | None,
    *,
    start: bool,
) -> Wish:
    from provisioning import soul as souls
    from provisioning.record import HOME_MAX_BYTES, MEMORY_MAX_BYTES
    from provisioning.wish import Wish

    if soul.name not in (None, name):
        raise errors.Invalid(f"that is the soul of {soul.name}, not of {name}")
    kind, command = souls.parse_runner(runner, Path.cwd()) if runner else (soul.runner or "claude", soul.command)
    limits = soul.limits.model_dump(exclude_none=True) | {key: souls.parse_room(said) for key, said in rooms.items() if said}
    memory_max, home_max = limits.pop("memory_max", MEMORY_MAX_BYTES), limits.pop("home_max", HOME_MAX_BYTES)
    settings = {"turn_timeout_seconds": limits.pop("turn_timeout_seconds", None), "pulse_minutes": soul.pulse_minutes}
    return Wish(
        name=name,
        soul=soul.text,
        runner=kind,
        command=command,
        model=(soul.model or "") if kind == "claude" else "",
        repo=str(Path(repo).absolute()) if repo and Path(repo).is_dir() else repo,
        watch=tuple(dict.fromkeys((*(soul.watch or ()), *watch))),
        memory_max_bytes=memory_max,
        home_max_bytes=home_max,
        limits=limits,
        settings={key: value for key, value in settings.items() if value is not None},
        owner=owner.removeprefix("@") if owner else None,
        caller=os.environ.get("SUDO_USER"),
        start=start,
    )
