"""`colony-agent birth` and `death`: an agent comes to this machine, and leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from colony import errors
from colony.bounds import BOUNDS
from colony_agent import settings

if TYPE_CHECKING:
    from provisioning.soul import RunnerKind, Soul
    from provisioning.unpacking import Archived
    from provisioning.wish import Wish

_dry_run = click.option("--dry-run", is_flag=True, help="Show the steps, and change nothing.")
_json = click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")


@click.command("birth")
@click.argument("name")
@click.option("--soul", "soul_file", type=click.Path(path_type=Path), help="The Markdown file it is born from.")
@click.option("--from", "archive", type=click.Path(path_type=Path), help="The archive of a home that becomes its own; a soul comes first.")
@click.option("--repo", metavar="URL|PATH", help="A repository of which it gets a clone; '': none, though it had one where it is from.")
@click.option("--runner", metavar="claude|command:…", help="What thinks; default: as the soul says, else claude.")
@click.option("--memory-max", metavar="SIZE", help="The most memory of all its processes, like 4G.")
@click.option("--watch", metavar="CHANNEL", multiple=True, help="It gets every message of this channel, besides the soul's.")
@click.option("--no-start", is_flag=True, help="Make all ready; a second birth brings it to life.")
@_dry_run
@_json
def birth(
    name: str,
    soul_file: Path | None,
    archive: Path | None,
    repo: str | None,
    runner: str | None,
    memory_max: str | None,
    watch: tuple[str, ...],
    no_start: bool,
    dry_run: bool,
    is_json: bool,
) -> None:
    """Bring an agent to life on this machine: a Linux user, a home, a service. Safe to repeat."""
    from provisioning import agents, facts, soul, unpacking
    from provisioning.show import Show

    facts.require_root()
    if soul_file is None and archive is None:
        raise errors.Invalid("give the soul that it is born from, --soul FILE, or the archive of its home, --from ARCHIVE")
    show = Show(is_json, dry_run)
    said = soul.load(soul_file) if soul_file else None
    kept = unpacking.read(archive.absolute()) if archive else None
    wish = _wish(name, _merged(said, kept), kept, repo, runner, memory_max, watch, start=not no_start)
    steps = agents.bear(wish, show.step, dry_run=dry_run)
    lives = f"{name} lives; talk to it: colony post general '@{name} …'"
    lived = f"{name} lives already, and a soul or an archive counts at its birth only; docs/host.md says how to change an agent"
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


def _merged(said: Soul | None, kept: Archived | None) -> Soul:
    """The soul that was given; what it leaves open, or all of it, is as in the archive. Raises `Invalid` where neither has a text."""
    from provisioning.soul import Limits, Soul

    if kept is None:
        assert said
        return said
    if said is None and not (kept.soul and kept.soul.strip()):
        raise errors.Invalid(f"{kept.path} has no CLAUDE.md that could be the agent's soul; give one with --soul FILE")
    said = said or Soul(kept.soul or "")
    found = settings.parsed(kept.path, {"name": "", **kept.agent})
    known_runner = cast("RunnerKind | None", kept.record.runner if kept.record else kept.agent.get("runner"))
    runner, command, model = (
        (said.runner, said.command, said.model) if said.runner else (known_runner, found.command, said.model or found.model)
    )
    limits = Limits(memory_max=kept.record.memory_max_bytes) if kept.record else Limits()
    return replace(
        said,
        runner=runner,
        command=command,
        model=model or None,
        limits=limits.model_copy(update=said.limits.model_dump(exclude_none=True)),
    )


def _wish(
    name: str,
    soul: Soul,
    kept: Archived | None,
    repo: str | None,
    runner: str | None,
    memory_max: str | None,
    watch: Sequence[str],
    *,
    start: bool,
) -> Wish:
    from provisioning import soul as souls
    from provisioning.record import MEMORY_MAX_BYTES
    from provisioning.wish import Wish

    if soul.name not in (None, name):
        raise errors.Invalid(f"that is the soul of {soul.name}, not of {name}")
    kind, command = souls.parse_runner(runner, Path.cwd()) if runner else (soul.runner or "claude", soul.command)
    limits = soul.limits.model_dump(exclude_none=True)
    timeout, memory = limits.pop("turn_timeout_seconds", None), limits.pop("memory_max", MEMORY_MAX_BYTES)
    if kind == "command" and not command:
        raise errors.Invalid("the archive does not say which program the agent runs; say so: --runner command:PROGRAM")
    if repo is None:
        repo = _kept_repo(kept) if kept else ""
    said = {"turn_timeout_seconds": timeout, "pulse_minutes": soul.pulse_minutes}
    return Wish(
        name=name,
        soul=soul.text,
        runner=kind,
        command=command,
        model=(soul.model or "") if kind == "claude" else "",
        repo=str(Path(repo).absolute()) if repo and Path(repo).is_dir() else repo,
        watch=tuple(dict.fromkeys((*soul.watch, *watch))),
        memory_max_bytes=souls.parse_memory_max(memory_max) if memory_max else memory,
        limits=limits,
        settings={**_kept_settings(kept), **{key: value for key, value in said.items() if value is not None}},
        start=start,
        archive=kept.path if kept else None,
    )


def _kept_repo(kept: Archived) -> str:
    """Of which repository it gets a clone; empty where it has one in the archive, or never had one. Raises `Invalid` where nobody knows."""
    named = kept.record.repo if kept.record else ""
    if kept.agent.get("repo") and not (named or kept.has_repo):
        raise errors.Invalid(f"{kept.path} lacks the clone that the agent had; say of what it was: --repo URL|PATH, or --repo '' for none")
    return named


def _kept_settings(kept: Archived | None) -> dict[str, int | str]:
    """What an archived home was set to, but for what leads out of it: where it thinks, and with which program."""
    if kept is None:
        return {}
    repo = {"repo": "repo"} if kept.has_repo else {}
    return {**{key: value for key, value in kept.agent.items() if key in BOUNDS}, **repo}
