"""What a colony depends on around it: systemd, room on its disks, a clock that is right, copies of its data."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

from colony import schema
from provisioning import places
from provisioning.checks import code
from provisioning.checks.finding import HOST, Finding, Findings, Unseen
from provisioning.checks.scene import Scene
from provisioning.systemd import is_running
from provisioning.watch import look

MIN_SYSTEMD = 250  # for LoadCredentialEncrypted=
CONTAINER = Path("/run/systemd/container")  # systemd writes there what kind of container it runs in
BUSES = (Path("/usr/bin/dbus-daemon"), Path("/usr/bin/dbus-broker"))
MAX_AHEAD = timedelta(minutes=1)


def manager(scene: Scene) -> Findings:
    """systemd, without which nothing lives here."""
    if not is_running():
        yield Finding(HOST, "systemd does not run here: agents live as its services", "boot this machine with systemd")
        return
    if error := scene.excuses.get("bus"):
        yield Finding(HOST, error.detail, _bus_remedy())
        return
    yield from version(scene.systemd.version())


def _bus_remedy() -> str:
    if find_spec("pystemd") is None:
        return code.INSTALL
    return "systemctl start dbus.socket" if any(map(Path.exists, BUSES)) else "apt-get install dbus"


def version(said: str) -> Findings:
    number = re.match(r"[0-9]+", said)
    if number and int(number[0]) < MIN_SYSTEMD:
        what = f"systemd {said} is too old: {MIN_SYSTEMD} is the first that can give agents their credentials"
        yield Finding(HOST, what, "move to Debian 12, Ubuntu 24.04 or something newer")


def disks(scene: Scene) -> Findings:
    """Room for data and homes."""
    for trouble in look.disks():
        if trouble.is_sure:
            remedy = f"journalctl --vacuum-size=200M; du -xh --max-depth=2 {places.DATA} {places.HOMES} | sort -h | tail"
            yield Finding(HOST, trouble.says, remedy, "warning")


def backups(scene: Scene) -> Findings:
    """Copies of the database and of each home that are not too old."""
    scene.require_root()
    for unit, troubles in {"colony-backup": look.backups(), "colony-home-backup": look.home_backups()}.items():
        for trouble in troubles:
            yield Finding(HOST, trouble.says, f"systemctl start {unit}", "warning")


def clock(scene: Scene) -> Findings:
    """A clock that is kept right. A container has that of the machine around it."""
    if CONTAINER.exists():
        return
    try:
        said = subprocess.run(["timedatectl", "show", "--property=NTPSynchronized", "--value"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unseen(f"timedatectl: {error}") from error
    if said.returncode:
        raise Unseen(f"timedatectl: {said.stderr.strip()}")
    yield from synchronised(said.stdout.strip())


def synchronised(said: str) -> Findings:
    if said == "no":
        remedy = "apt-get install systemd-timesyncd; timedatectl set-ntp true"
        yield Finding(HOST, "the clock is not synchronised with any other", remedy, "warning")


def jump(scene: Scene) -> Findings:
    """Whether the clock has been set back: the colony then remembers a future, and waits for it."""
    yield from ahead(scene.colony.users.values(), datetime.now(UTC))


def ahead(users: Iterable[schema.User], now: datetime) -> Findings:
    latest = max((user.last_seen_at for user in users if user.last_seen_at), default=now)
    if latest > now + MAX_AHEAD:
        then = f"the colony has heard somebody at {latest:%Y-%m-%d %H:%M:%S} UTC, and now it is {now:%Y-%m-%d %H:%M:%S}"
        yield Finding(HOST, f"the clock was set back: {then}", "timedatectl set-ntp true", "warning")
