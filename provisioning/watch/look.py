"""What can be wrong with a host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provisioning import archives, places
from provisioning.systemd import UnitState
from provisioning.watch.sizes import Size

MIN_FREE_SHARE, MIN_FREE_BYTES = 0.1, 10**9  # below one of them a disk is nearly full
WELL = 1.2  # times as much must be free until that is over; else a disk at the limit would be in the news each time
UNIT, HOME = "unit:", "home:"  # how the key of a unit's trouble begins, and of a home's
MAX_NAMED = 3  # agents in one piece of news
MAX_BACKUP_SECONDS = 2 * 24 * 3600
BACKUP_TIMER = places.UNITS / "colony-backup.timer"
HOME_BACKUP_TIMER = places.UNITS / "colony-home-backup.timer"


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong, or was and is not surely well again."""

    key: str
    says: str
    relief: str  # what to say when it is over
    is_sure: bool = True  # else it is nothing new
    pauses: str = ""  # the agent that shall not go on until somebody has seen to it


def units(states: Iterable[UnitState]) -> list[Trouble]:
    """Of units that have failed, or are just being started: they may fail again."""
    return [
        Trouble(
            key=f"{UNIT}{unit.name}",
            says=f"{unit.name} has failed ({unit.result or unit.sub}): `journalctl -u {unit.name}` says more.",
            relief=f"{unit.name} is well again.",
            is_sure=unit.active == "failed",
        )
        for unit in states
        if unit.active in ("failed", "activating")
    ]


def disks(paths: Sequence[Path] = (places.DATA, places.HOMES)) -> list[Trouble]:
    """Of the file systems that data and homes are on."""
    found: dict[int, list[Path]] = {}
    for path in paths:
        if path.exists():
            found.setdefault(path.stat().st_dev, []).append(path)
    return [trouble for there in found.values() for trouble in _disk(" and ".join(map(str, there)), os.statvfs(there[0]))]


def _disk(name: str, room: os.statvfs_result) -> list[Trouble]:
    free, all_bytes = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    troubles = []
    if shortage := _shortage(free / max(all_bytes, 1), free):
        says = f"The disk of {name} is nearly full: {free / 1e9:.1f} GB ({free / max(all_bytes, 1):.0%}) are free."
        troubles.append(Trouble(f"disk:{name}", says, f"The disk of {name} has room again.", shortage == "sure"))
    if room.f_files and (shortage := _shortage(room.f_favail / room.f_files)):
        says = f"The disk of {name} can hold few more files: {room.f_favail / room.f_files:.0%} of its inodes are free."
        troubles.append(Trouble(f"inodes:{name}", says, f"The disk of {name} can hold more files again.", shortage == "sure"))
    return troubles


def _shortage(share: float, free_bytes: float = float("inf")) -> str:
    fullness = min(share / MIN_FREE_SHARE, free_bytes / MIN_FREE_BYTES)
    return "sure" if fullness < 1 else "nearly" if fullness < WELL else ""


def homes(sizes: Mapping[str, Size]) -> list[Trouble]:
    """Of agents' homes that hold more than they may."""
    return [_home(name, size) for name, size in sizes.items() if size.fullness * WELL > 1]


def _home(name: str, size: Size) -> Trouble:
    larger = f"give it a soul with a larger limits.home_max (colony-agent soul set {name} FILE)"
    remedy = f"Remove what it does not need, or {larger}; then: colony-agent resume {name}"
    says = f"The home of {name} holds {size.shown}; so {name} is paused. {remedy}"
    return Trouble(f"{HOME}{name}", says, f"The home of {name} is within its bound again.", size.fullness > 1, pauses=name)


def backups(folder: Path = places.DATA / "backups", timer: Path = BACKUP_TIMER, now: float | None = None) -> list[Trouble]:
    """Of a backup that is long due. Where none is made, as of PostgreSQL, there is nothing to say."""
    if not timer.exists():
        return []
    now = now or time.time()
    since = _overdue(folder.glob("colony-*.db") if folder.is_dir() else (), timer.stat().st_mtime, now)
    if since is None:
        return []
    says = f"There is no new backup since {_date(since)}: `journalctl -u colony-backup` says more."
    return [Trouble("backup", says, "There is a new backup.")]


def home_backups(
    records: Path = places.RECORDS, folder: Path = places.BACKUPS, timer: Path = HOME_BACKUP_TIMER, now: float | None = None
) -> list[Trouble]:
    """Of backups of agents' homes that are long due. Root alone may know."""
    if not timer.exists():
        return []
    now = now or time.time()
    begun = {path.stem: max(path.stat().st_mtime, timer.stat().st_mtime) for path in records.glob("*.toml")}
    overdue = {name: _overdue(archives.living(name, folder), at, now) for name, at in sorted(begun.items())}
    late = {name: since for name, since in overdue.items() if since is not None}
    if not late:
        return []
    names = f"{', '.join([*late][:MAX_NAMED])}{f' and {len(late) - MAX_NAMED} more' * (len(late) > MAX_NAMED)}"
    says = f"There is no new backup of the home of {names} since {_date(min(late.values()))}: `journalctl -u colony-home-backup` says more."
    return [Trouble("home-backups", says, "There are new backups of all homes.")]


def _overdue(made: Iterable[Path], begun: float, now: float) -> float | None:
    """Since when there is none that is newer, if that is too long ago; `begun` is when there could have been the first."""
    # A clock that was set back must not hide for months that none is made any more.
    past = [at for path in made if (at := _changed_at(path)) is not None and at <= now]
    newest = max(past, default=begun)
    return None if now - newest < MAX_BACKUP_SECONDS else newest


def _changed_at(path: Path) -> float | None:
    with suppress(FileNotFoundError):  # the backups that are due may be deleting it
        return path.stat().st_mtime
    return None


def _date(at: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(at))} UTC"
