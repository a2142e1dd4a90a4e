"""What an agent is to be, from what somebody says at its birth, its soul, and the archive of an earlier home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from colony import errors
from colony.bounds import BOUNDS, RunnerKind
from colony_agent import settings
from provisioning import soul as souls
from provisioning.record import HOME_MAX_BYTES, MEMORY_MAX_BYTES
from provisioning.soul import Limits, Soul
from provisioning.unpacking import Archived
from provisioning.wish import Wish


@dataclass(frozen=True)
class Said:
    """What somebody says. None: nothing; the soul decides then, or the archive."""

    name: str
    soul: Soul | None
    kept: Archived | None
    repo: str | None
    runner: str | None
    sandbox: str | None
    rooms: Mapping[str, str]  # sizes, by their keys in a soul's limits
    watch: Sequence[str]
    owner: str | None
    start: bool


def made(said: Said, caller: str | None) -> Wish:
    """`caller` is the Linux user who says it. Raises `Invalid` for what contradicts itself, or leaves something open."""
    soul = _merged(said.soul, said.kept)
    if soul.name not in (None, said.name):
        raise errors.Invalid(f"that is the soul of {soul.name}, not of {said.name}: birth {soul.name}, or change its `name`")
    kind, command = souls.parse_runner(said.runner, Path.cwd()) if said.runner else (soul.runner or "claude", soul.command)
    if kind == "command" and not command:
        raise errors.Invalid("the archive does not say which program the agent runs; say so: --runner command:PROGRAM")
    sandbox, image = souls.parse_sandbox(said.sandbox) if said.sandbox else (soul.sandbox or "bwrap", soul.image)
    repo = said.repo if said.repo is not None else _kept_repo(said.kept)
    limits = soul.limits.model_dump(exclude_none=True) | {key: souls.parse_room(size) for key, size in said.rooms.items()}
    memory_max, home_max = limits.pop("memory_max", MEMORY_MAX_BYTES), limits.pop("home_max", HOME_MAX_BYTES)
    own = {"turn_timeout_seconds": limits.pop("turn_timeout_seconds", None), "pulse_minutes": soul.pulse_minutes}
    return Wish(
        name=said.name,
        soul=soul.text,
        runner=kind,
        command=command,
        model=(soul.model or "") if kind == "claude" else "",
        sandbox=sandbox,
        image=image,
        repo=str(Path(repo).absolute()) if repo and Path(repo).is_dir() else repo,
        watch=tuple(dict.fromkeys((*(soul.watch or ()), *said.watch))),
        egress=soul.egress or (),
        memory_max_bytes=memory_max,
        home_max_bytes=home_max,
        limits=limits,
        settings={**_kept_settings(said.kept), **{key: value for key, value in own.items() if value is not None}},
        owner=said.owner.removeprefix("@") if said.owner else None,
        caller=caller,
        start=said.start,
        archive=said.kept.path if said.kept else None,
    )


def _merged(said: Soul | None, kept: Archived | None) -> Soul:
    """The soul that was given; what it leaves open, or all of it, is as in the archive. Raises `Invalid` where neither has a text."""
    if kept is None:
        assert said
        return said
    if said is None and not (kept.soul and kept.soul.strip()):
        raise errors.Invalid(f"{kept.path} has no CLAUDE.md that could be the agent's soul; give one with --soul FILE")
    said = said or Soul(kept.soul or "")
    found = settings.parsed(kept.path, {"name": "", **kept.agent})
    known_runner = cast("RunnerKind | None", kept.record.runner if kept.record else kept.agent.get("runner"))
    runner, command = (said.runner, said.command) if said.runner else (known_runner, found.command)
    limits = _kept_limits(kept).model_copy(update=said.limits.model_dump(exclude_none=True))
    # A model that the archive names is for the runner that it names.
    model = said.model if said.runner or said.model is not None else found.model
    return replace(said, runner=runner, command=command, model=model, limits=limits)


def _kept_limits(kept: Archived) -> Limits:
    known = kept.record
    return Limits(memory_max=known.memory_max_bytes, home_max=known.home_max_bytes) if known else Limits()


def _kept_repo(kept: Archived | None) -> str:
    """Of which repository it gets a clone; empty where it has one in the archive, or never had one. Raises `Invalid` where nobody knows."""
    if kept is None:
        return ""
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
