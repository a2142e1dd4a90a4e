"""The host's own units: systemd takes them, and they show little."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from provisioning import units
from provisioning.host import files
from provisioning.host.settings import ServerSettings

KINDS = {
    "sqlite": ServerSettings(),
    "postgresql here": ServerSettings("postgresql://colony@localhost/colony"),
    "postgresql elsewhere": ServerSettings("postgresql://colony@db.example.org/colony"),
}
MOST = {
    "colony-server.service": 1.9,
    "colony-backup.service": 0.6,
    "colony-home-sizes.service": 1.2,
    "colony-home-backup.service": 1.3,
    "colony-egress.service": 2.2,
    "colony-prune.service": 1.6,
    "colony-watch.service": 1.5,
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """`systemd-analyze verify` wants to see the programs that units run."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for program in ("colony-agent", "colony-egress", "colony-server"):
        shutil.copy(Path(sys.executable).with_name(program), folder)
    (folder / "python").symlink_to("/usr/bin/python3")
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_takes_them_and_finds_them_little_exposed(release: Path, tmp_path: Path, kind: str) -> None:
    made = files.render(release, KINDS[kind], {})
    units.check(made)
    services = [tmp_path / name for name in made if name.endswith(".service")]
    for path in services:
        path.write_text(made[path.name])
    for name, exposure in units.exposures(services).items():
        assert exposure <= MOST[name], name


@pytest.mark.parametrize("kind", KINDS)
def test_none_has_a_value_in_its_environment(release: Path, kind: str) -> None:
    for text in files.render(release, KINDS[kind], {"ANTHROPIC_API_KEY": Path("/etc/colony/credentials/ANTHROPIC_API_KEY")}).values():
        assert not re.search("^(Environment|PassEnvironment|SetCredential=[^:]*:(?!gone$))", text, re.MULTILINE)
        assert "example.org" not in text


def test_each_timer_has_its_service_and_each_service_but_three_a_timer() -> None:
    names = files.unit_names()
    timers = {name.removesuffix(".timer") for name in names if name.endswith(".timer")}
    services = {name.removesuffix(".service") for name in names if name.endswith(".service")}
    assert services - timers == {"colony-server", "colony-egress", "colony-home-sizes"}  # the watch begins the last
    assert timers <= services
