"""A memory that outgrows its bound: what moves to the diary, and that nothing on the way is lost."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from colony_agent.overflow import OVERGROWN, read, settle, split
from colony_agent.settings import Home
from tests.colony.test_files import ODD
from tests.colony_agent.agents import Agent, House, wait_for
from tests.colony_agent.cast import NOW, scout_at
from tests.colony_agent.crashes import crashes
from tests.server.disks import disk

LIMIT = 270
LINES = [f"line {number:02} {'x' * 20}" + (" [pinned]" if number % 5 == 0 else "") for number in range(30)]
OVERGROWN_MEMORY = "".join(f"{line}\n" for line in LINES)
ODD_DIARY = {what: make for what, make in ODD.items() if what != "folder"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = scout_at(tmp_path / "scout", memory_max_bytes=LIMIT)
    memory(home).parent.mkdir()
    return home


def memory(home: Home) -> Path:
    return home.path / "memory" / "memory.md"


def diary(home: Home) -> Path:
    return home.path / "memory" / "diary" / f"overflow-{NOW:%Y-%m-%d}.md"


def lines(*files: Path) -> list[str]:
    """The lines of a memory that are in those files."""
    return [line for file in files if file.exists() for line in file.read_text().splitlines() if line.startswith("line ")]


def test_the_oldest_lines_move_to_the_diary_and_the_pinned_ones_stay(home: Home) -> None:
    memory(home).write_text(OVERGROWN_MEMORY)
    settle(home, NOW)
    assert memory(home).stat().st_size <= LIMIT
    assert lines(memory(home)) == [line for line in LINES[:-1] if "[pinned]" in line] + LINES[-1:]
    assert lines(diary(home)) == [line for line in LINES[:-1] if "[pinned]" not in line]
    assert f"## Moved out of memory.md at {NOW:%H:%M} UTC\n" in diary(home).read_text()
    assert [path.stat().st_mode & 0o777 for path in (memory(home), diary(home), diary(home).parent)] == [0o600, 0o600, 0o700]


def test_what_fits_stays_as_it_is(home: Home) -> None:
    for text in ("", "x" * LIMIT, "x\n" * (LIMIT // 2)):
        memory(home).write_text(text)
        settle(home, NOW)
        assert memory(home).read_text() == text
    memory(home).unlink()
    settle(home, NOW)
    assert os.listdir(home.path / "memory") == []


def test_a_second_time_on_a_day_adds_to_what_is_there(home: Home) -> None:
    diary(home).parent.mkdir()
    diary(home).write_text("my own words, without an end of line")
    for part in (LINES[:15], LINES[15:]):
        with memory(home).open("a") as file:
            file.writelines(f"{line}\n" for line in part)
        settle(home, NOW)
    assert diary(home).read_text().startswith("my own words, without an end of line\n## Moved")
    assert diary(home).read_text().count("## Moved") == 2
    assert sorted(lines(memory(home), diary(home))) == LINES


@pytest.mark.parametrize(
    ("text", "most", "moved", "kept"),
    [
        (b"a\nb\nc\n", 4, b"a\n", b"b\nc\n"),
        (b"a\nb\nc", 5, b"a\n", b"b\nc\n"),
        (b"a\nb\nc\n", 1, b"a\nb\nc\n", b""),
        (b"a [pinned]\nb\nc\n", 13, b"b\n", b"a [pinned]\nc\n"),
        (b"a [pinned]\nb\nc [pinned]\n", 12, b"a [pinned]\nb\n", b"c [pinned]\n"),
        (b"x" * 100, 50, b"x" * 100 + b"\n", b""),
        (b"new\n" + b"x" * 100 + b"\nlast\n", 50, b"new\n" + b"x" * 100 + b"\n", b"last\n"),
        (b"\xff\xfe\n\xe9\n", 2, b"\xff\xfe\n", b"\xe9\n"),
        (b"a\r\nb\r\n", 3, b"a\r\n", b"b\r\n"),
    ],
)
def test_which_lines_move(text: bytes, most: int, moved: bytes, kept: bytes) -> None:
    assert split(text, most) == (moved, kept)


def test_a_memory_too_large_to_be_read_goes_to_the_diary_whole(home: Home) -> None:
    whole = OVERGROWN_MEMORY + "line of filler\n" * (OVERGROWN * LIMIT // 10) + "line at the end\n"
    memory(home).write_text(whole)
    settle(home, NOW)
    assert lines(memory(home)) == [line for line in LINES if "[pinned]" in line]
    assert (diary(home).parent / f"overflow-{NOW:%Y-%m-%dT%H%M%SZ}.md").read_text() == whole


def test_a_dream_reads_what_outgrew_its_bound_but_not_what_outgrew_all_bounds(home: Home) -> None:
    memory(home).write_text(OVERGROWN_MEMORY)
    assert read(home, NOW) == OVERGROWN_MEMORY.encode()
    assert memory(home).read_text() == OVERGROWN_MEMORY
    memory(home).write_text("x\n" * OVERGROWN * LIMIT)
    assert read(home, NOW) == b""


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_something_odd_in_the_place_of_the_diarys_file_is_put_aside(home: Home, make: Callable[[Path], object]) -> None:
    memory(home).write_text(OVERGROWN_MEMORY)
    diary(home).parent.mkdir()
    make(diary(home))
    settle(home, NOW)
    assert sorted(lines(memory(home), diary(home))) == LINES
    assert len(os.listdir(diary(home).parent)) == 2


@pytest.mark.parametrize("make", [*ODD_DIARY.values(), Path.touch], ids=[*ODD_DIARY, "file"])
@pytest.mark.parametrize("size", ["read", "too large"])
def test_something_odd_in_the_place_of_the_diary_is_put_aside(home: Home, size: str, make: Callable[[Path], object]) -> None:
    whole = OVERGROWN_MEMORY if size == "read" else OVERGROWN_MEMORY + "line of filler\n" * OVERGROWN * LIMIT
    memory(home).write_text(whole)
    outside = home.path.parent / "outside"
    outside.mkdir()
    make(diary(home).parent)
    settle(home, NOW)
    assert memory(home).stat().st_size <= LIMIT
    found = lines(memory(home), *diary(home).parent.iterdir())
    assert set(found) == set(whole.splitlines())
    assert os.listdir(outside) == []


@pytest.mark.parametrize("at", ["memory/memory.md", "memory"])
@pytest.mark.parametrize("make", ODD_DIARY.values(), ids=ODD_DIARY)
def test_a_memory_that_is_none_is_left_alone(home: Home, caplog: pytest.LogCaptureFixture, at: str, make: Callable[[Path], object]) -> None:
    (home.path / "memory").rmdir()
    if at != "memory":
        (home.path / "memory").mkdir()
    make(home.path / at)
    settle(home, NOW)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "memory not kept within its bound agent=scout error=" in caplog.text
    assert not (home.path / "memory" / "diary").exists()


def test_a_full_disk_changes_nothing_and_some_room_is_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with disk(tmp_path / "disk", 1) as small:
        home = scout_at(small.path / "scout", memory_max_bytes=LIMIT)
        diary(home).parent.mkdir(parents=True)
        diary(home).write_text("my own words\n")
        memory(home).write_text("line of many\n" * 1000)
        small.fill()
        before = [path.read_text() for path in (memory(home), diary(home))]
        for _ in range(2):
            settle(home, NOW)
            assert "No space left on device" in caplog.text
            assert [path.read_text() for path in (memory(home), diary(home))] == before
            assert {path.name for path in memory(home).parent.rglob("*")} == {"memory.md", "diary", diary(home).name}
        small.free()
        settle(home, NOW)
        assert memory(home).stat().st_size <= LIMIT
        assert len(lines(memory(home), diary(home))) == 1000


@pytest.mark.parametrize("size", ["read", "too large"])
def test_a_crash_anywhere_loses_no_line(home: Home, size: str) -> None:
    whole = OVERGROWN_MEMORY if size == "read" else OVERGROWN_MEMORY + "line of filler\n" * OVERGROWN * LIMIT
    memory(home).write_text(whole)
    count = 0
    for _ in crashes(lambda: settle(home, NOW)):
        count += 1
        kept = memory(home).parent
        assert set(lines(memory(home), *(kept / "diary").glob("*"))) == set(whole.splitlines())
        assert memory(home).read_text() == whole  # it is replaced by the last deed but the end
        for path in kept.rglob("*.md"):
            if path != memory(home):
                path.unlink()
    assert count > 5
    assert memory(home).stat().st_size <= LIMIT
    assert set(lines(memory(home), *(memory(home).parent / "diary").iterdir())) == set(whole.splitlines())


# As the agent's turns and dreams do it


def test_the_memory_keeps_its_bound_though_every_dream_fails(house: House, tmp_path: Path) -> None:
    scout = house.agent(tmp_path, memory_max_bytes=LIMIT)
    writes = 'for n in 1 2 3 4 5; do echo "line $(wc -l < runs) $n ............................................" >> memory/memory.md; done'
    scout.settle(f"echo run >> runs; {writes}; echo 'line [pinned]' > said; echo done", memory_max_bytes=LIMIT)
    (scout.home / "runs").touch()
    for _ in range(3):
        scout.ask()
        assert scout.turn().returncode == 0
        assert size_of(scout) <= LIMIT
    scout.settle(f"echo run >> runs; {writes}; echo no >&2; exit 3", memory_max_bytes=LIMIT)
    for _ in range(2):
        assert scout.run("dream").returncode == 10
        assert size_of(scout) <= LIMIT
    scout.ask()
    done = scout.turn()
    assert done.returncode == 10
    assert "memory outgrew its bound" in done.stderr
    assert size_of(scout) <= LIMIT
    written = lines(scout.home / "memory" / "memory.md", *(scout.home / "memory" / "diary").glob("overflow-*.md"))
    turns = {f"line {run} {n} {'.' * 44}" for run in (1, 2, 3, 6) for n in range(1, 6)}
    assert sorted(written) == sorted(turns), "each line of a turn once; what failed dreams wrote themselves was never memory"


def test_a_turn_that_is_stopped_leaves_no_larger_memory(scout: Agent) -> None:
    scout.settle("yes 'line of many' | head -n 1000 > memory/memory.md; touch written; sleep 60", memory_max_bytes=LIMIT)
    scout.ask()
    with scout.begin("turn") as turn:
        wait_for((scout.home / "written").exists, "memory")
        turn.signal(signal.SIGTERM)
        assert turn.wait() == 10
    assert size_of(scout) <= LIMIT


def size_of(scout: Agent) -> int:
    return (scout.home / "memory" / "memory.md").stat().st_size
