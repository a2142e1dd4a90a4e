"""`python -I -m provisioning.watch`: what colony-watch.service runs. Root starts services, the user colony says what is new."""

from __future__ import annotations

import os
import sys
import time

from colony import errors
from provisioning import places, stepdown
from provisioning.systemd import Systemd, UnitState
from provisioning.watch import look, revive, sizes, tell

PATTERNS = ("colony-*", "agent-*-worker.service", "agent-*-dream.*")
OWN = "colony-watch.service"


def main() -> None:
    try:
        with Systemd() as systemd:
            troubled, measured = _revive(systemd), sizes.last()
            found = [*look.units(troubled), *look.disks(), *look.homes(measured.sizes if measured else {}), *look.home_backups()]
            unseen = () if measured else (look.HOME,)  # after a boot, until the first measurement
            stepdown.as_user(places.SERVER_USER, lambda: tell.tell([*found, *look.backups()], unseen=unseen))
            if sizes.is_due(measured, _now(), os.statvfs(places.HOMES)):
                systemd.begin(sizes.SERVICE)
    except errors.ColonyError as error:
        print(f"<4>{error.detail}", file=sys.stderr)  # a warning, as the journal counts
        sys.exit(error.exit_code)


def _revive(systemd: Systemd) -> list[UnitState]:
    """The units that have failed or are being started; those whose pause is over are begun anew."""
    troubled = [systemd.state(unit) for unit in systemd.named(*PATTERNS, states=("failed", "activating")) if unit != OWN]
    past = revive.remembered()
    due, known = revive.plan(past, [unit.name for unit in troubled if unit.active == "failed"], _now())
    if known != past:
        revive.remember(known)
    for unit in due:
        systemd.begin(unit)
    return troubled


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


main()
