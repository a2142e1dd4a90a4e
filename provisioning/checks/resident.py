"""Agents as far as anything speaks of them: on this machine, or in the colony. Most live; some were never born whole, or never died."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from colony import errors, schema
from provisioning import agents, facts, places, record, units
from provisioning.checks.finding import Finding, Findings, Unseen
from provisioning.checks.scene import Scene
from provisioning.record import Record

DYING = "it dies"  # the note of an agent whose death has begun
_UNIT = re.compile(rf"agent-({record.NAME.pattern})-(?:worker\.service|dream\.service|dream\.timer)")
_RELEASE = re.compile(rf"{re.escape(str(places.RELEASES))}/([^/\s]+)")


@dataclass(frozen=True)
class Resident:
    name: str
    record: Record | None = None
    fault: str = ""  # why there is a record that can't be read
    is_record_seen: bool = True  # False: only root may look
    account: pwd.struct_passwd | None = None
    has_home: bool = False
    unit_files: Mapping[str, str] = field(default_factory=dict)
    enabled: frozenset[str] = frozenset()
    member: schema.User | None = None  # who has this name in the colony
    is_colony_seen: bool = True

    @property
    def home(self) -> Path:
        return places.HOMES / self.name

    @property
    def is_ours(self) -> bool:
        """False: the Linux user of this name is somebody else."""
        return self.account is None or facts.is_ours(self.account)

    @property
    def is_born(self) -> bool:
        """It is to work; whether it does is to be found out."""
        return not self.is_record_seen or (self.record is not None and self.record.is_born and not self._is_gone)

    @property
    def is_ready(self) -> bool:
        """A birth with --no-start has made all that another one needs to bring it to life."""
        has_all = self.account is not None and self.has_home and {*units.names(self.name)} <= self.unit_files.keys()
        return self.record is not None and not self.record.is_born and has_all and not self.enabled and not self._is_gone

    @property
    def release(self) -> Path | None:
        """The one that its worker's unit names."""
        found = _RELEASE.search(self.unit_files.get(units.worker(self.name), ""))
        return places.RELEASES / found[1] if found else None

    @property
    def is_forgotten(self) -> bool:
        """The colony does not know of a life that is whole here: a death removes the home before it says so."""
        has_all = self.account is not None and self.has_home
        return self.is_colony_seen and (self.member is None or (self.member.status == "dead" and has_all))

    @property
    def _is_gone(self) -> bool:
        if not self.is_colony_seen:
            return False
        member = self.member
        return member is None or member.status == "dead" or (member.status, member.status_note) == ("draining", DYING)


def read(scene: Scene) -> list[Resident]:
    """All of them, by name."""
    return [_resident(name, scene) for name in sorted({*_names(scene)})]


def whole(resident: Resident) -> Findings:
    """Whether it lives, or is ready to; what is left of it otherwise, and what becomes of that."""
    if agents.is_changing(resident.name):
        raise Unseen("somebody is giving birth to it, or copies, changes or ends it, right now")
    name = resident.name
    remains = ", ".join(_remains(resident))
    end = f"colony-agent death {name}"
    if resident.is_born or resident.is_ready:
        return
    if not resident.is_ours:
        what = f"{remains} among the agents' things, and the Linux user {name} is no agent"
        yield Finding(name, what, f"move them away, or rename that user: usermod --login {name}-user {name}; then {end}", "warning")
    elif resident.fault:
        yield Finding(name, f"its record can't be read: {resident.fault}", f"mend {record.path(name)}; or end it: {end}")
    elif resident.record is None:
        yield Finding(name, f"{remains} of an agent that the host has no record of: a birth or a death was interrupted", end)
    elif resident.is_forgotten and resident.record.is_born:
        takes = "takes it for dead" if resident.member else "does not know it"
        yield Finding(name, f"the colony {takes}: was a backup restored that is older than the agent?", _born_again(resident))
    elif resident.record.is_born:
        yield Finding(name, f"its death was interrupted; left are {remains}", end)
    else:
        origin = f"--from …/{resident.record.origin}" if resident.record.origin else "--soul FILE"
        complete = f"colony-agent birth {name} {origin}"
        yield Finding(name, f"its birth was not completed; there are {remains}", f"{complete}; or {end}", "warning")


def understood(scene: Scene, resident: Resident) -> Findings:
    """Whether all that its record says means something to this release."""
    if unknown := record.unknown_keys(resident.name):
        what = f"its record says what this release does not know, and passes over: {', '.join(unknown)}"
        remedy = f"remove that from {record.path(resident.name)}, unless a later release wrote it"
        yield Finding(resident.name, what, remedy, "warning")


def _resident(name: str, scene: Scene) -> Resident:
    known, fault, is_seen = None, "", True
    try:
        record.path(name).exists()
        known = record.read(name)
    except PermissionError:
        is_seen = False
    except errors.Invalid as error:
        fault = error.detail
    present = {unit: places.UNITS / unit for unit in units.names(name)}
    enabled: frozenset[str] = frozenset()
    if scene.bus:
        enabled = frozenset(unit for unit in present if scene.bus.is_enabled(unit))
    return Resident(
        name=name,
        record=known,
        fault=fault,
        is_record_seen=is_seen,
        account=scene.accounts.get(name),
        has_home=(places.HOMES / name).is_dir(),
        unit_files={unit: path.read_text(errors="replace") for unit, path in present.items() if path.is_file()},
        enabled=enabled,
        member=scene.answer.users.get(name) if scene.answer else None,
        is_colony_seen=scene.answer is not None,
    )


def _names(scene: Scene) -> Iterator[str]:
    yield from record.names()
    yield from (name for name, account in scene.accounts.items() if facts.is_ours(account))
    yield from _of_units(path.name for path in places.UNITS.glob("agent-*"))
    with suppress(PermissionError, FileNotFoundError):  # who is not root may not list the homes
        yield from (path.name for path in places.HOMES.iterdir() if record.NAME.fullmatch(path.name))
    if scene.bus:
        with suppress(errors.ColonyError):
            yield from _of_units(scene.bus.named("agent-*-worker.service"))
    if scene.answer:
        yield from (user.username for user in scene.answer.users.values() if _is_local(user))


def _of_units(names: Iterable[str]) -> Iterator[str]:
    return (found[1] for name in names if (found := _UNIT.fullmatch(name)))


def _is_local(user: schema.User) -> bool:
    return user.kind == "agent" and user.status != "dead" and user.linux_user == user.username


def _remains(resident: Resident) -> Iterator[str]:
    if resident.account:
        yield "a Linux user"
    if resident.has_home:
        yield f"the home {resident.home}"
    if resident.unit_files:
        yield "units"
    if resident.record or resident.fault:
        yield "a record"
    if resident.member and resident.member.status != "dead":
        yield f"a member of the colony ({resident.member.status})"


def _born_again(resident: Resident) -> str:
    assert resident.record
    runner = "command:/bin/true" if resident.record.runner == "command" else "claude"  # what it really runs stands in its home
    return f"colony-agent birth {resident.name} --soul {resident.home}/CLAUDE.md --runner {runner}"
