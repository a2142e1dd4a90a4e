"""What the kernel says of a process, judged: limits in each kind of cgroup, privileges, and what it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioning import units
from provisioning.checks import cgroup, process
from provisioning.checks.cgroup import Held
from provisioning.checks.process import Mounts
from provisioning.systemd import Limits

UNIT = "agent-scout-worker.service"
OWN = f"/colony.slice/{UNIT}"
WANTED = Limits(memory_bytes=256 * 2**20, tasks=512)
HELD = Held({"memory": OWN, "pids": OWN}, WANTED.memory_bytes, WANTED.tasks)
SEALED = (
    "Name:\tpython\nUid:\t994\t994\t994\t994\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
    "CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
)
NARROW = Mounts(
    {"/": frozenset({"ro"}), "/proc": frozenset({"rw", "hidepid=invisible"}), "/home": frozenset({"rw"})},
    {"/": "ext4", "/proc": "proc", "/home": "tmpfs"},
)


def machine(tmp_path: Path, membership: str, mounts: dict[str, str], files: dict[str, str]) -> Path:
    """A /proc in which the process 7 is in those cgroups, which are mounted below `tmp_path`."""
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/7/cgroup").write_text(membership)
    lines = [f"30 24 0:26 / {tmp_path}/{where} rw,nosuid shared:4 - {kind}" for where, kind in mounts.items()]
    (tmp_path / "proc/self/mountinfo").write_text("\n".join(["24 1 0:22 / / rw - ext4 /dev/sda1 rw", *lines]))
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "proc"


@pytest.mark.parametrize(
    ("membership", "mounts", "files"),
    [
        (f"0::{OWN}\n", {"c": "cgroup2 cgroup2 rw"}, {f"c{OWN}/memory.max": "268435456\n", f"c{OWN}/pids.max": "512\n"}),
        (
            f"9:name=systemd:{OWN}\n8:pids:{OWN}\n4:memory:{OWN}\n0::{OWN}\n",
            {"m": "cgroup cgroup rw,memory", "p": "cgroup cgroup rw,pids", "u": "cgroup2 cgroup2 rw"},
            {f"m{OWN}/memory.limit_in_bytes": "268435456\n", f"p{OWN}/pids.max": "512\n"},
        ),
        (
            f"4:memory:{OWN}\n0::{OWN}\n",
            {"m": "cgroup cgroup rw,memory", "u": "cgroup2 cgroup2 rw"},
            {f"m{OWN}/memory.limit_in_bytes": "268435456\n", f"u{OWN}/pids.max": "512\n"},
        ),
    ],
    ids=["v2", "v1", "both"],
)
def test_limits_are_read_in_each_kind_of_cgroup(tmp_path: Path, membership: str, mounts: dict[str, str], files: dict[str, str]) -> None:
    assert cgroup.read(7, machine(tmp_path, membership, mounts, files)) == HELD


def test_the_limits_of_a_slice_are_read_above_who_is_in_it(tmp_path: Path) -> None:
    own = f"/colony.slice/{units.SLICE}"
    files = {f"c{own}/memory.max": "268435456\n", f"c{own}/pids.max": "512\n", f"c{own}/{UNIT}/memory.max": "max\n"}
    proc = machine(tmp_path, f"0::{own}/{UNIT}\n", {"c": "cgroup2 cgroup2 rw"}, files)
    held = cgroup.read(7, proc, slice=units.SLICE)
    assert held == Held({"memory": own, "pids": own}, WANTED.memory_bytes, 512)
    assert list(process.held_together(WANTED, held)) == []


def test_agents_that_are_not_held_together_are_found() -> None:
    found = [finding.what for finding in process.held_together(WANTED, Held(HELD.paths, None, None))]
    assert found == [
        "the memory of all agents together is not limited as colony-agents.slice says: as much as there is, not 256 MB",
        "the number of all agents' processes is not limited as colony-agents.slice says: any, not 512",
    ]


def test_who_is_in_no_slice_tells_nothing_of_it(tmp_path: Path) -> None:
    proc = machine(tmp_path, f"0::{OWN}\n", {"c": "cgroup2 cgroup2 rw"}, {f"c{OWN}/memory.max": "max\n"})
    assert cgroup.read(7, proc, slice=units.SLICE).paths == {}


def test_a_controller_that_is_off_is_no_limit_but_none_at_all(tmp_path: Path) -> None:
    held = cgroup.read(7, machine(tmp_path, f"0::{OWN}\n", {"c": "cgroup2 cgroup2 rw"}, {f"c{OWN}/pids.max": "max\n"}))
    assert held == Held({"pids": OWN}, None, None)
    [finding] = process.held_to("scout", UNIT, Limits(WANTED.memory_bytes, None), held)
    assert finding.what.startswith("this kernel limits nobody's memory")


@pytest.mark.parametrize(("text", "limit"), [("max\n", None), ("9223372036854771712\n", None), ("4096\n", 4096), ("0\n", 0)])
def test_a_limit_is_a_number_or_none(text: str, limit: int | None) -> None:
    assert cgroup.limit(text) == limit


def test_who_is_held_as_the_unit_says_is_well() -> None:
    assert list(process.held_to("scout", UNIT, WANTED, HELD)) == []
    rounded = Held(HELD.paths, WANTED.memory_bytes, 512)
    assert list(process.held_to("scout", UNIT, Limits(256 * 2**20 + 100, 512), rounded)) == []  # the kernel counts in pages
    assert list(process.held_to("scout", UNIT, Limits(None, None), Held(HELD.paths))) == []


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (Held(HELD.paths, None, 512), "its memory is not limited as its unit says: as much as there is, not 256 MB"),
        (Held(HELD.paths, 2**30, 512), "its memory is not limited as its unit says: 1024 MB, not 256 MB"),
        (Held(HELD.paths, WANTED.memory_bytes, None), "the number of its processes is not limited as its unit says: any, not 512"),
        (Held(dict.fromkeys(HELD.paths, "/other"), WANTED.memory_bytes, 512), "its worker is not in the cgroup of its unit but in /other"),
    ],
)
def test_who_is_held_otherwise_is_found(held: Held, says: str) -> None:
    [finding] = process.held_to("scout", UNIT, WANTED, held)
    assert finding.what.startswith(says)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "it may gain privileges"),
        ("Seccomp:\t2", "Seccomp:\t0", "no system call is filtered"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000400", "it holds capabilities (CapBnd)"),
        ("994\t994\t994\t994", "0\t0\t0\t0", "it runs as the uid 0, not 994"),
        (SEALED, "", "it may gain privileges"),
    ],
)
def test_a_process_that_is_not_sealed_is_found(before: str, after: str, says: str) -> None:
    assert list(process.sealed("scout", SEALED, 994)) == []
    [finding] = process.sealed("scout", SEALED.replace(before, after), 994)
    assert says in finding.what


@pytest.mark.parametrize(
    ("shared", "place", "options", "kind", "says"),
    [
        (["net"], "/", {"ro"}, "ext4", "it has not its own network"),
        (["mnt", "ipc"], "/", {"ro"}, "ext4", "it has not its own file systems; it has not its own shared memory"),
        ([], "/", {"rw"}, "ext4", "the system can be written"),
        ([], "/proc", {"rw"}, "proc", "it sees the processes of others"),
        ([], "/home", {"rw"}, "ext4", "it sees the homes of others"),
    ],
)
def test_a_process_that_sees_too_much_is_found(shared: list[str], place: str, options: set[str], kind: str, says: str) -> None:
    assert list(process.narrow("scout", [], NARROW)) == []
    mounts = Mounts({**NARROW.options, place: frozenset(options)}, {**NARROW.kinds, place: kind})
    [finding] = process.narrow("scout", shared, mounts)
    assert finding.what == f"its worker sees too much: {says}"


def test_of_two_mounts_at_one_place_the_last_is_seen() -> None:
    lines = [
        "24 1 0:22 / / rw,relatime - ext4 /dev/sda1 rw",
        "25 24 0:23 / /proc rw,nosuid shared:5 - proc proc rw",
        "26 24 0:23 / /proc rw,nosuid - proc proc rw,hidepid=invisible",
        "27 24 0:24 / /home ro,nosuid - tmpfs tmpfs rw,mode=755",
    ]
    seen = process.read_mounts("\n".join(lines))
    assert seen.options["/proc"] == {"rw", "nosuid", "hidepid=invisible"}
    assert (seen.options["/"], seen.kinds["/home"]) == (frozenset({"rw", "relatime"}), "tmpfs")
