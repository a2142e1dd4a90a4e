"""What is wrong with a host, and what only nearly is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioning.systemd import UnitState
from provisioning.watch import look

GB = 10**9
DAY = 24 * 3600.0


def room(free: int, size: int, free_files: int = 900, files: int = 1000) -> os.statvfs_result:
    block = 1000
    return os.statvfs_result((block, block, size // block, free // block, free // block, files, free_files, free_files, 0, 255))


def keys(troubles: list[look.Trouble], *, sure: bool = True) -> list[str]:
    return [trouble.key.partition(":")[0] for trouble in troubles if trouble.is_sure is sure]


@pytest.mark.parametrize(
    ("free", "size", "sure", "unsure"),
    [
        (50 * GB, 100 * GB, [], []),
        (9 * GB, 100 * GB, ["disk"], []),
        (11 * GB, 100 * GB, [], ["disk"]),
        (13 * GB, 100 * GB, [], []),
        (GB - 1000, 5 * GB, ["disk"], []),
        (GB + GB // 10, 5 * GB, [], ["disk"]),
        (GB + GB // 4, 5 * GB, [], []),
    ],
)
def test_a_disk_is_nearly_full_below_a_tenth_or_a_gigabyte(free: int, size: int, sure: list[str], unsure: list[str]) -> None:
    troubles = look._disk("/data", room(free, size))
    assert keys(troubles) == sure
    assert keys(troubles, sure=False) == unsure


def test_a_disk_without_inodes_is_full_too() -> None:
    [trouble] = look._disk("/data", room(50 * GB, 100 * GB, free_files=99))
    assert trouble.key == "inodes:/data"
    assert "10% of its inodes" in trouble.says


def test_a_file_system_without_inodes_has_enough() -> None:
    assert look._disk("/data", room(50 * GB, 100 * GB, free_files=0, files=0)) == []


def test_two_folders_on_one_disk_are_one_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(look, "MIN_FREE_BYTES", 10**18)
    [trouble] = [each for each in look.disks([tmp_path / "a", tmp_path / "b", tmp_path / "none"]) if each.key.startswith("disk")]
    assert f"{tmp_path}/a and {tmp_path}/b" in trouble.says


def test_a_unit_that_has_failed_is_trouble_and_one_that_starts_is_nothing_new() -> None:
    states = [
        UnitState("a.service", "loaded", "failed", "failed", result="exit-code"),
        UnitState("b.service", "loaded", "activating", "auto-restart"),
        UnitState("c.service", "loaded", "active", "running"),
    ]
    assert [(each.key, each.is_sure) for each in look.units(states)] == [("unit:a.service", True), ("unit:b.service", False)]


def test_backups_of_homes_are_missed_after_two_days_and_told_of_once(tmp_path: Path) -> None:
    records, folder, timer = tmp_path / "agents", tmp_path / "living", tmp_path / "colony-home-backup.timer"
    records.mkdir()
    assert look.home_backups(records, folder, timer, 100 * DAY) == [], "nothing makes any"
    timer.touch()
    os.utime(timer, (0, 0))
    for name in ("crow", "rook", "scout", "scout-2"):
        (records / f"{name}.toml").touch()
        os.utime(records / f"{name}.toml", (99 * DAY, 99 * DAY))
    assert look.home_backups(records, folder, timer, 100 * DAY) == [], "the first one may still come"
    [trouble] = look.home_backups(records, folder, timer, 102 * DAY)
    assert "no new backup of the home of crow, rook, scout and 1 more since 1970-04-10 00:00 UTC" in trouble.says
    folder.mkdir()
    for name in ("crow", "rook", "scout-2"):
        made = folder / f"{name}-20300101T000000Z.tar.gz"
        made.touch()
        os.utime(made, (101 * DAY, 101 * DAY))
    [trouble] = look.home_backups(records, folder, timer, 102 * DAY)
    assert "of the home of scout since" in trouble.says


def test_a_backup_is_missed_after_two_days(tmp_path: Path) -> None:
    timer, folder = tmp_path / "colony-backup.timer", tmp_path / "backups"
    assert look.backups(folder, timer, 100 * DAY) == [], "nothing makes any"
    timer.touch()
    os.utime(timer, (98.5 * DAY, 98.5 * DAY))
    assert look.backups(folder, timer, 100 * DAY) == [], "the first one may still come"
    assert keys(look.backups(folder, timer, 101 * DAY)) == ["backup"]
    folder.mkdir()
    made = folder / "colony-20300101T000000.000000Z.db"
    made.touch()
    os.utime(made, (100 * DAY, 100 * DAY))
    assert look.backups(folder, timer, 101 * DAY) == []
    [trouble] = look.backups(folder, timer, 103 * DAY)
    assert "no new backup since 1970-04-11 00:00 UTC" in trouble.says
