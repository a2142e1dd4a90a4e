"""Failpoints: each stands somewhere in the code, fires once, and only when it is armed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from colony import failpoints
from colony.failpoints import POINTS, VARIABLE
from colony.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
REACHES = "from colony.failpoints import reach; reach('turn.claimed'); reach('server.before_wake', 'post'); print('lives', flush=True)"


def begin(folder: Path | None) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    armed = {VARIABLE: str(folder)} if folder else {}
    return subprocess.Popen([sys.executable, "-c", REACHES], cwd=ROOT, env=env | armed, stdout=subprocess.PIPE, text=True)


def test_every_point_is_in_the_code_and_every_point_of_the_code_in_the_table() -> None:
    found = set()
    for package in ("colony", "colony_agent", "server"):
        for path in (ROOT / package).rglob("*.py"):
            found |= set(re.findall(r'\breach\("([a-z_.]+)"(, operation\.name)?\)', path.read_text()))
    alone = {point for point, operation in found if not operation}
    of_operations = {point for point, operation in found if operation}
    assert alone == {point for point in POINTS if point.count(".") == 1}
    assert of_operations == {point.rpartition(".")[0] for point in POINTS if point.count(".") == 2}
    assert {point.rpartition(".")[2] for point in POINTS if point.count(".") == 2} <= OPERATIONS.keys()


@pytest.mark.parametrize("point", ["turn.claimed", "server.before_wake.post"])
def test_an_armed_point_ends_the_process_once(tmp_path: Path, point: str) -> None:
    failpoints.arm(tmp_path, point)
    first = begin(tmp_path)
    assert first.communicate(timeout=30)[0] == ""
    assert first.returncode == 137
    assert [(hit.point, hit.pid) for hit in failpoints.hits(tmp_path)] == [(point, first.pid)]
    second = begin(tmp_path)
    assert second.communicate(timeout=30)[0] == "lives\n"


def test_one_point_stops_one_process_until_it_is_continued(tmp_path: Path) -> None:
    failpoints.arm(tmp_path, "turn.claimed", "stop")
    process = begin(tmp_path)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    assert [(hit.point, hit.pid) for hit in failpoints.hits(tmp_path)] == [("turn.claimed", process.pid)]
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30)[0] == "lives\n"
    assert process.returncode == 0


def test_what_is_not_armed_does_nothing(tmp_path: Path) -> None:
    failpoints.arm(tmp_path, "turn.claimed")
    with pytest.raises(FileExistsError):
        failpoints.arm(tmp_path, "turn.claimed", "stop")
    failpoints.disarm(tmp_path, "turn.claimed")
    failpoints.disarm(tmp_path, "turn.claimed")
    for folder in (tmp_path, None, tmp_path / "missing"):
        assert begin(folder).communicate(timeout=30)[0] == "lives\n"
    assert failpoints.hits(tmp_path) == set()


def test_a_point_that_does_not_exist_cannot_be_armed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"turn\.lunch"):
        failpoints.arm(tmp_path, "turn.lunch")
