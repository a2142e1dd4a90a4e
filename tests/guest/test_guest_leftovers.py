"""Nothing of a guest stays behind, however it or its owner ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.guest import Guest
from tests.guest.layers import CHECKOUT
from tests.guest.places import NSPAWNS, PLACES

pytestmark = pytest.mark.usefixtures("layers")

OWNER = """
import time
from tests.guest.guest import Guest
guest = Guest(disk_bytes=64 << 20, memory_bytes=1 << 30)
guest.__enter__()
print(guest.name, guest.leader, flush=True)
time.sleep(600)
"""

CROWD = """
from tests.guest.places import Place
for _ in range(40):
    Place().give_back()
"""


def left_of(name: str) -> list[str]:
    """Mounts, cgroups, processes and folders that are there because of that guest."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    cgroups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if name in folder]
    folders = [place for place in (PLACES / name, NSPAWNS / name) if place.exists()]
    return [*mounts, *cgroups, *map(str, folders), *processes_of(name)]


def processes_of(name: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_dead = "\nState:\tZ" in (process / "status").read_text()
            if not is_dead and name in (process / "cgroup").read_text() + (process / "cmdline").read_text():
                found.append(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_closed_machine_leaves_nothing() -> None:
    with Guest(memory_bytes=1 << 30) as guest:
        guest.run("systemd-run", "--unit=busy", "sleep", "1000")
        sleeping = guest.start("sleep", "1000", user="nobody")
        guest.reboot()
        guest.power_cut()
        assert len(left_of(guest.name)) > 10
    assert left_of(guest.name) == []
    assert sleeping.wait(10) != 0
    guest.close()  # twice does no harm


def test_a_machine_that_was_powered_off_leaves_nothing() -> None:
    with Guest() as guest:
        guest.power_off()
    assert left_of(guest.name) == []


def test_a_machine_that_does_not_boot_says_why_and_leaves_nothing() -> None:
    guest = Guest()
    init = guest.root / "usr/lib/systemd/systemd"
    init.unlink()
    init.write_text("#!/bin/sh\necho no such luck; exit 1\n")
    init.chmod(0o755)
    with pytest.raises(AssertionError, match=r"(?s)does not boot.*no such luck"), guest:
        pass
    assert left_of(guest.name) == []


def test_what_a_killed_owner_leaves_goes_at_the_next_start() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    name, leader = owner.stdout.readline().split()
    assert Path("/proc", leader).exists()
    owner.kill()
    owner.wait(10)
    with Guest():
        assert left_of(name) == []
    assert not Path("/proc", leader).exists()


def test_a_machine_whose_nspawn_was_killed_leaves_nothing() -> None:
    with Guest() as guest:
        (nspawn,) = [pid for pid in map(int, processes_of(guest.name)) if Path(f"/proc/{pid}/comm").read_text() == "systemd-nspawn\n"]
        os.kill(nspawn, signal.SIGKILL)
    assert left_of(guest.name) == []


def test_a_start_leaves_the_machines_of_living_owners_alone(bare_machine: Guest) -> None:
    with Guest():
        pass
    assert bare_machine.run("systemctl", "is-system-running").stdout == "running\n"


def test_many_processes_come_and_go_at_once() -> None:
    crowd = [subprocess.Popen([sys.executable, "-c", CROWD], cwd=CHECKOUT) for _ in range(6)]
    assert [each.wait(60) for each in crowd] == [0] * len(crowd)
    assert [path for path in PLACES.iterdir() if path.name.split("-")[2] in {str(each.pid) for each in crowd}] == []
