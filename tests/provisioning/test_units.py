"""An agent's units: what is in them, and that none is used which systemd would not take or which shows too much."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from colony import errors
from provisioning import units
from provisioning.record import Record

RECORDS = [Record("scout", "claude", "2030-01-01T00:00:00+00:00"), Record("scout", "command", "2030-01-01T00:00:00+00:00", 64 * 2**20)]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """`systemd-analyze verify` wants to see the program that a unit runs."""
    program = tmp_path / ".venv" / "bin" / "colony-agent"
    program.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).with_name("colony-agent"), program)
    return tmp_path


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.runner)
def test_systemd_takes_them_and_finds_them_little_exposed(release: Path, tmp_path: Path, record: Record) -> None:
    files = units.render(record, release)
    assert {*files} == {*units.names("scout")}
    units.check(files)
    for name in (units.worker("scout"), units.dream("scout")):
        (tmp_path / name).write_text(files[name])
        assert units.exposures([tmp_path / name])[name] <= 1.9


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.runner)
def test_none_has_a_value_in_its_environment(release: Path, record: Record) -> None:
    for text in units.render(record, release).values():
        assert not re.search("^(Environment|PassEnvironment|SetCredential)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("MemoryMax=", "MemoryMaximum=", "^systemd does not take the unit: agent-scout-worker.service:[0-9]+: Unknown key"),
        ("Restart=always", "Restart=perhaps", "Failed to parse service restart specifier"),
        ("colony-agent worker", "no-such-program worker", "no-such-program is not executable"),
        ("[Service]", "[Service", "not|Assignment outside of section|Invalid section"),
        ("NoNewPrivileges=yes\nCapabilityBoundingSet=\n", "NoNewPrivileges=no\n", "too exposed"),
        ("CapabilityBoundingSet=\nAmbientCapabilities=\nProtectSystem=strict\nProtectHome=tmpfs\n", "", "too exposed"),
    ],
)
def test_a_unit_that_is_wrong_or_shows_too_much_is_refused(release: Path, before: str, after: str, says: str) -> None:
    files = units.render(RECORDS[0], release)
    name = units.worker("scout")
    assert before in files[name]
    with pytest.raises(errors.Invalid, match=says) as caught:
        units.check({**files, name: files[name].replace(before, after)})
    assert "\n" not in str(caught.value)


def test_nothing_to_check_takes_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_analyze", None)
    units.check({})
