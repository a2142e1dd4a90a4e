"""Births and deaths of agents on this machine: looks, thinks, and has it done, one at a time for each name."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from colony import errors
from provisioning import archives, birth, clone, death, facts, places, reach, record, units
from provisioning.apply import Tell, apply, silently
from provisioning.steps import Step, Write
from provisioning.systemd import Systemd
from provisioning.wish import Wish


def bear(wish: Wish, tell: Tell = silently, *, dry_run: bool = False) -> list[Step]:
    """Bring an agent to life, or complete an earlier birth; with the steps that this takes, none if it lives already.

    What can be known to fail is known before anything is changed. Raises `ColonyError`; the agent is then as it was, or `provisioning`,
    and another birth completes it.
    """
    with alone(wish.name), Systemd() as systemd:
        steps = birth.plan(facts.read(wish.name, systemd), wish)
        if any(step.name == "home" for step in steps):
            if wish.repo:
                clone.require_reachable(wish.repo)
            if wish.command:
                reach.require_runnable(wish.command[0])
            if wish.sandbox == "podman":
                reach.require_podman()
        units.check(unit_files(steps))
        if not dry_run:
            try:
                apply(steps, tell)
            except errors.ColonyError as error:
                rest = f"{wish.name} is not complete: repeat the birth, or end it with colony-agent death {wish.name}"
                raise type(error)(f"{error.detail}; {rest}") from error
    return steps


def bury(name: str, tell: Tell = silently, *, purge: bool = False, dry_run: bool = False) -> list[Step]:
    """Remove all of an agent from this machine, or what an earlier death has left; its home is archived unless `purge`.

    Raises `NotFound` where nothing of it is.
    """
    archive_name = None if purge else archives.name_of(name)
    with alone(name), Systemd() as systemd:
        steps = death.plan(facts.read(name, systemd, for_death=True), archive_name)
        if not dry_run:
            apply(steps, tell)
    return steps


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Raises `Conflict` while another process does something to the agent."""
    facts.require_root()
    record.checked_name(name)
    places.LOCKS.mkdir(mode=0o700, exist_ok=True)
    with open(places.LOCKS / name, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Conflict(
                f"somebody else is giving birth to {name}, or copies, changes or ends it; try again when that is done"
            ) from None
        yield


def is_changing(name: str) -> bool:
    """Whether some process does something to the agent, as far as the caller may know. Nobody is kept from it by the question."""
    try:
        held = (places.LOCKS / name).stat()
    except OSError:
        return False
    key = f"{os.major(held.st_dev):02x}:{os.minor(held.st_dev):02x}:{held.st_ino}"
    return any(line.split()[1:2] == ["FLOCK"] and key in line.split() for line in Path("/proc/locks").read_text().splitlines())


def unit_files(steps: Iterable[Step]) -> dict[str, str]:
    """Those that the steps write, by their names."""
    return {act.path.name: act.text for step in steps for act in step.acts if isinstance(act, Write) and act.path.parent == places.UNITS}
