"""How much homes hold: counted as a disk counts, with bounds for bytes and for files, and not all the time."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from provisioning.watch import look, measure, sizes
from provisioning.watch.sizes import Measured, Size
from tests.provisioning.test_watch_look import room

GB, MB = 2**30, 2**20
LAST = Measured({"scout": Size(5 * MB, 20, 64 * MB)}, 1000.0, 2.0, 50 * GB, 10**6)


def test_a_home_is_counted_as_its_disk_counts_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(8 * MB))
    home = tmp_path / "home"
    (home / "a/b").mkdir(parents=True)
    (home / "a/file").write_bytes(os.urandom(MB))
    os.link(home / "a/file", home / "a/b/the same")
    (home / "link").symlink_to(outside)
    with (home / "sparse").open("wb") as file:
        file.truncate(GB)
    other = tmp_path / "another"
    other.mkdir()
    both = measure.sizes_of({home: 64 * MB, tmp_path / "none": MB, other: GB})
    assert (set(both), both[other].files) == ({home, other}, 1)
    found = both[home]
    assert MB <= found.bytes < 2 * MB
    assert (found.files, found.max_bytes) == (7, 64 * MB)


def test_where_there_is_no_home_there_is_nothing_to_count(tmp_path: Path) -> None:
    assert measure.sizes_of({tmp_path / "none": GB}) == measure.sizes_of({}) == {}


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (Size(12 * GB, 7, 10 * GB), "12.0 GB and may hold 10.0 GB"),
        (Size(65 * MB, 7, 64 * MB), "65 MB and may hold 64 MB"),
        (Size(0, 5000, 64 * MB), "5000 files and may hold 4096, one for each 16 KB of 64 MB"),
    ],
)
def test_a_home_that_holds_too_much_pauses_its_agent_with_a_reason(size: Size, says: str) -> None:
    [trouble] = look.homes({"scout": size})
    assert (trouble.key, trouble.is_sure, trouble.pauses) == ("home:scout", True, "scout")
    assert trouble.says == (
        f"The home of scout holds {says}; so scout is paused. Remove what it does not need, or give it a soul with a larger"
        " limits.home_max (colony-agent soul set scout FILE); then: colony-agent resume scout"
    )


def test_a_home_at_its_bound_is_no_news_until_it_holds_much_less() -> None:
    homes = {str(percent): Size(percent * MB, 9, 100 * MB) for percent in (80, 84, 100, 101)}
    assert [(trouble.pauses, trouble.is_sure) for trouble in look.homes(homes)] == [("84", False), ("100", False), ("101", True)]


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    assert sizes.last(tmp_path) is None
    sizes.keep(LAST, tmp_path)
    assert sizes.last(tmp_path) == LAST


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"sizes": {"scout": 1}}', '{"sizes": {}, "mood": 1}'])
def test_what_can_t_be_read_is_measured_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / sizes.FILE).write_text(text)
    assert sizes.last(tmp_path) is None


@pytest.mark.parametrize(
    ("past", "took", "free", "free_files", "is_due"),
    [
        (599, 2, 50 * GB, 10**6, False),
        (600, 2, 50 * GB, 10**6, True),
        (600, 60, 50 * GB, 10**6, False),  # it took so long that it must not come so often
        (1200, 60, 50 * GB, 10**6, True),
        (60, 2, 48 * GB, 10**6, True),  # somebody writes
        (60, 2, 50 * GB, 9 * 10**5, True),  # somebody makes files
        (60, 90, 48 * GB, 10**6, False),
        (60, 2, 60 * GB, 10**6, False),
    ],
)
def test_it_is_measured_now_and_then_and_at_once_when_the_disk_fills(
    past: float, took: float, free: int, free_files: int, is_due: bool
) -> None:
    seen = room(free, 100 * GB, free_files, 2 * 10**6)
    assert sizes.is_due(replace(LAST, took_seconds=took), LAST.at + past, seen) is is_due


def test_after_a_boot_it_is_measured() -> None:
    assert sizes.is_due(None, 0.0, room(GB, GB))
