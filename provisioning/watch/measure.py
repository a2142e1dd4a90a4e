"""`python -I -m provisioning.watch.measure`: what colony-home-sizes.service runs. It measures agents' homes, and keeps what it finds."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from colony import errors
from provisioning import places, record
from provisioning.watch import sizes
from provisioning.watch.sizes import Measured, Size

BLOCK_BYTES = 512  # find's


def measure() -> Measured:
    """All homes of this host. An agent whose record can't be read has no bound; doctor finds that."""
    began, room, homes = _now(), os.statvfs(places.HOMES), {}
    for name in record.names():
        with suppress(errors.ColonyError):
            if (known := record.read(name)) and (found := size(places.HOMES / name, known.home_max_bytes)):
                homes[name] = found
    now = _now()
    return Measured(homes, now, now - began, sizes.free_bytes(room), room.f_favail)


def size(home: Path, max_bytes: int) -> Size | None:
    """None where there is no home. Neither links nor mounts are followed; what vanishes meanwhile is no failure."""
    # Not du, which counts nothing where files are of another device than their folders, as in overlays.
    argv = ["find", str(home), "-xdev", "-printf", "%y %b %n\n"]
    blocks, files = 0.0, 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as found:
        assert found.stdout
        for kind, taken, names in map(str.split, found.stdout):
            blocks += int(taken) if kind == "d" else int(taken) / int(names)
            files += 1
    return Size(round(blocks * BLOCK_BYTES), files, max_bytes) if files else None


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sizes.keep(measure())
