"""What a host knows of an agent: read as it is, also where a later release has written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from colony import errors
from provisioning import places, record
from provisioning.checks import resident
from provisioning.checks.resident import Resident
from provisioning.checks.scene import Scene
from tests.provisioning.cast import RECORD

SCENE = Scene(places.RELEASES / "1", is_root=True)


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    return tmp_path


def test_what_is_written_is_read(records: Path) -> None:
    assert record.read("scout") is None
    RECORD.path.write_text(RECORD.text)
    assert record.read("scout") == RECORD
    assert [*resident.understood(SCENE, Resident("scout"))] == []


def test_a_record_of_a_later_release_is_read_and_what_it_says_more_is_found(records: Path) -> None:
    RECORD.path.write_text(f'{RECORD.text}mood = 1\nlikes = "tea"\n')
    assert record.read("scout") == RECORD
    [finding] = resident.understood(SCENE, Resident("scout"))
    assert (finding.severity, finding.what.partition(": ")[2]) == ("warning", "likes, mood")
    assert str(RECORD.path) in finding.remedy


@pytest.mark.parametrize(
    ("line", "instead", "says"),
    [
        ('name = "scout"', "", "missing 1 required positional argument: 'name'"),
        ('name = "scout"', 'name = "rook"', "it is rook's"),
        ('"command"', '"magic"', "it must hold the agent's name, runner, born_at"),
        ('"2030-01-01T12:00:00+00:00"', '"yesterday"', "Invalid isoformat string"),
        ("home_max_bytes = ", "home_max_bytes = 1 #", "home_max_bytes of at least 64 MiB"),
    ],
)
def test_what_can_not_be_a_record_is_refused_with_its_place(records: Path, line: str, instead: str, says: str) -> None:
    RECORD.path.write_text(RECORD.text.replace(line, instead))
    with pytest.raises(errors.Invalid, match=f"{RECORD.path}: .*{says}"):
        record.read("scout")
