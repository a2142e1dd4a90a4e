"""What is left of an agent decides what its death still has to do."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colony import errors
from provisioning import death, packing, places, record
from provisioning.steps import Remove, Run, Step
from tests.provisioning.cast import NOTHING, lives, member


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_all_of_a_living_agent_goes_in_this_order() -> None:
    assert names(death.plan(lives(), "scout-now")) == ["draining", "units", "home", "user", "dead", "record"]


def kept(archive_name: str | None, **changes: Any) -> list[tuple[str, ...]]:
    """The commands that archive the home."""
    acts = [act for step in death.plan(lives(**changes), archive_name) for act in step.acts]
    return [act.argv for act in acts if isinstance(act, Run) and "tar" in act.argv]


def test_without_an_archive_nothing_is_kept() -> None:
    assert len(kept("scout-now")) == 1
    assert kept(None) == []


def test_a_record_that_is_missing_keeps_no_home_from_its_archive() -> None:
    [with_record] = kept("scout-now")
    [without] = kept("scout-now", record=None, has_record=False)
    assert with_record[-4:] == (f"--directory={places.RECORDS}", "scout.toml", f"--directory={places.HOMES}", "scout")
    assert "scout.toml" not in without
    assert without[-2:] == with_record[-2:]


def nest(folder: Path, name: str, levels: int) -> None:
    """Folders in folders, with a file in each."""
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=inner)
        outer, inner = inner, os.open(name, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=inner))
    os.close(inner)


def test_the_archive_takes_little_memory_however_deep_folders_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "HOMES", tmp_path)
    monkeypatch.setattr(places, "ARCHIVE", tmp_path)
    monkeypatch.setattr(record, "path", lambda name: tmp_path / f"{name}.toml")
    home = tmp_path / "scout"
    (home / ".claude/deep").mkdir(parents=True)
    (home / ".claude/deep/note").touch()
    (tmp_path / "scout.toml").touch()
    nest(home, "x" * 250, 600)
    nest(home, "y", 600)
    [argv] = kept("scout-now")
    little = "--as=64000000"  # of what it may take; this home once took twice that, and 13 GB at ten times the depth
    packed = subprocess.run(["prlimit", little, *argv[argv.index("tar") :]], capture_output=True, text=True, check=False)
    subprocess.run(["rm", "-r", str(home)], check=True)  # pytest's own way of tidying up would not get through
    assert (packed.returncode, packed.stderr) == (0, "")
    with tarfile.open(tmp_path / ".scout.new") as tar:
        names = tar.getnames()
    assert {"record.toml", "scout/.claude/deep/note"} <= set(names)
    assert all(packing.is_bounded(name) for name in names)
    assert max(name.count("/") for name in names) == packing.MAX_DEPTH - 1
    assert max(map(len, names)) > packing.MAX_PATH_BYTES - 260


def test_who_archives_gets_no_more_memory_than_it_may() -> None:
    [argv] = kept("scout-now")
    bound = argv[: argv.index("tar")]
    greedy = [sys.executable, "-c", f"bytearray({death.MAX_MEMORY_BYTES})"]
    taken = subprocess.run([*bound, *greedy], capture_output=True, text=True, check=False)
    assert taken.stderr.endswith("MemoryError\n")


def test_backups_stay_unless_nothing_is_to_be_kept() -> None:
    backups = (Path("/var/backups/one"), Path("/var/backups/two"))
    assert "backups" not in names(death.plan(lives(backups=backups), "scout-now"))
    [step] = [step for step in death.plan(lives(backups=backups), None) if step.name == "backups"]
    assert step.acts == (Remove(backups[0]), Remove(backups[1]))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"has_record": True}, ["record"]),
        ({"member": member(status="provisioning")}, ["dead"]),
        ({"has_account": True}, ["user"]),
        ({"has_home": True}, ["home"]),
        ({"unit_files": {"agent-scout-worker.service": ""}}, ["units"]),
        ({"enabled": frozenset({"agent-scout-worker.service"})}, ["units"]),
        ({"active": frozenset({"agent-scout-worker.service"})}, ["units"]),
    ],
)
def test_what_an_interruption_left_goes_too(changes: dict[str, Any], steps: list[str]) -> None:
    assert names(death.plan(replace(NOTHING, **changes), "scout-now")) == steps


def test_where_nothing_is_nobody_dies() -> None:
    with pytest.raises(errors.NotFound, match="no agent scout lives on this machine"):
        death.plan(NOTHING, "x")
    with pytest.raises(errors.NotFound):
        death.plan(replace(NOTHING, member=member(status="dead", linux_user=None)), "x")
    with pytest.raises(errors.NotFound):
        death.plan(replace(NOTHING, member=member(kind="ape", linux_user=None)), "x")


@pytest.mark.parametrize("changes", [{"is_foreign": True, "has_account": True}, {"member": member(linux_user=None)}])
def test_who_is_no_agent_of_this_machine_is_spared(changes: dict[str, Any]) -> None:
    with pytest.raises(errors.Conflict):
        death.plan(replace(NOTHING, **changes), "x")
