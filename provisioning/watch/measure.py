"""`python -I -m provisioning.watch.measure`: what colony-home-sizes.service runs. It measures agents' homes, and keeps what it finds."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from colony import errors
from provisioning import places, record
from provisioning.watch import sizes
from provisioning.watch.sizes import Measured, Size

BLOCK_BYTES = 512  # find's


def measure() -> Measured:
    """All homes of this host. An agent whose record can't be read has no bound; doctor finds that."""
    began, room, bounds = _now(), os.statvfs(places.HOMES), {}
    for name in record.names():
        with suppress(errors.ColonyError):
            if known := record.read(name):
                bounds[places.HOMES / name] = known.home_max_bytes
    found = {home.name: size for home, size in sizes_of(bounds).items()}
    now = _now()
    return Measured(found, now, now - began, sizes.free_bytes(room), room.f_favail)


def sizes_of(bounds: Mapping[Path, int]) -> dict[Path, Size]:
    """Of the homes that there are, of which is said how many bytes each may hold. Neither links nor mounts are followed; what vanishes
    meanwhile is no failure.
    """
    if not bounds:
        return {}
    # Not du, which counts nothing where files are of another device than their folders, as in overlays.
    argv = ["find", *map(str, bounds), "-xdev", "-printf", "%y %b %n %H\n"]
    taken, files = defaultdict[str, float](float), Counter[str]()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as found:
        assert found.stdout
        for line in found.stdout:
            kind, blocks, names, home = line.rstrip("\n").split(" ", 3)
            taken[home] += BLOCK_BYTES * int(blocks) / (1 if kind == "d" else int(names))
            files[home] += 1
    return {home: Size(round(taken[str(home)]), files[str(home)], bound) for home, bound in bounds.items() if files[str(home)]}


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sizes.keep(measure())
