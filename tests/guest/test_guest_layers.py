"""A layer is built once, and all guests over it start from it without sharing what they change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.guest import Guest
from tests.guest.layers import CHECKOUT, SOURCE, Layers
from tests.guest.places import Place

pytestmark = pytest.mark.usefixtures("layers")

UNIT = "[Service]\nExecStart=/bin/sleep infinity\nUser=settler\n[Install]\nWantedBy=multi-user.target\n"
BUILDS = """
import sys
from pathlib import Path
from tests.guest.layers import Layers
from tests.guest.test_guest_layers import counted, settle
Layers(Path(sys.argv[1])).get("settled", lambda guest: (counted(Path(sys.argv[1])), settle(guest)))
"""


def settle(guest: Guest) -> None:
    guest.run("useradd", "--create-home", "settler")
    guest.write("/etc/systemd/system/stays.service", UNIT)
    guest.run("systemctl", "enable", "--now", "stays.service")
    guest.run("mkdir", "-p", "/srv/folder/below")
    guest.run("rm", "/etc/issue")


def fail(guest: Guest) -> None:
    guest.run("sh", "-c", "echo no such package >&2; false")


def counted(folder: Path) -> None:
    with (folder / "count").open("a") as count:
        count.write("built\n")


@pytest.fixture(scope="module")
def settled(layers: Layers) -> Path:
    return layers.get("settled", settle)


def test_a_guest_over_a_layer_starts_from_it(settled: Path) -> None:
    with Guest(layers=[settled]) as guest:
        assert guest.unit("stays.service", "ActiveState") == {"ActiveState": "active"}
        assert guest.run("id", "--name", "--user", user="settler").stdout == "settler\n"
        assert not guest.path("/etc/issue").exists()
        assert guest.run("ls", "/home").stdout == "settler\n"
        assert "stays.service" not in guest.run("journalctl", "--boot=-1", check=False).stdout, "it was not there before"


def test_guests_over_one_layer_share_nothing(settled: Path) -> None:
    with Guest(layers=[settled]) as one, Guest(layers=[settled]) as other:
        one.write("/home/settler/note", "hello")
        one.run("userdel", "settler", check=False)
        assert not other.path("/home/settler/note").exists()
        other.run("id", "settler")
        assert one.path("/etc/machine-id").read_text() != other.path("/etc/machine-id").read_text()


def test_a_folder_of_a_layer_can_be_renamed(settled: Path) -> None:
    with Guest(layers=[settled]) as guest:
        guest.run("python3", "-c", "import os; os.rename('/srv/folder', '/srv/renamed')")
        guest.reboot()
        assert guest.path("/srv/renamed/below").is_dir()
        assert not guest.path("/srv/folder").exists()


def test_layers_lie_upon_each_other(settled: Path, layers: Layers) -> None:
    upper = layers.get("upper", lambda guest: guest.write("/etc/upper", "yes"))
    with Guest(layers=[upper, settled]) as guest:
        assert guest.path("/etc/upper").exists()
        guest.run("id", "settler")


def test_processes_that_want_a_layer_at_once_build_it_once() -> None:
    place = Place()
    try:
        builders = [subprocess.Popen([sys.executable, "-c", BUILDS, place.folder], cwd=CHECKOUT) for _ in range(3)]
        assert [builder.wait(60) for builder in builders] == [0, 0, 0]
        assert (place.folder / "count").read_text() == "built\n"
    finally:
        place.give_back()


def test_a_layer_that_fails_fails_for_all_with_its_reason() -> None:
    place = Place()
    try:
        for _ in range(2):
            with pytest.raises(AssertionError, match="no such package"):
                Layers(place.folder).get("broken", fail)
    finally:
        place.give_back()


def test_a_layer_whose_builder_was_killed_is_built_anew() -> None:
    place = Place()
    try:
        die = BUILDS.replace("settle(guest)", "__import__('os').kill(__import__('os').getpid(), 9)")
        assert subprocess.run([sys.executable, "-c", die, place.folder], cwd=CHECKOUT, check=False).returncode == -9
        with Guest(layers=[Layers(place.folder).get("settled", settle)]) as guest:
            guest.run("id", "settler")
    finally:
        place.give_back()


# --- the one in which Colony is installed


def test_colony_runs_on_a_machine_and_can_be_installed_again_without_a_network(machine: Guest) -> None:
    assert machine.unit("colony-server.service", "ActiveState") == {"ActiveState": "active"}
    assert machine.path(f"{SOURCE}/Makefile").exists()
    pip = ("/opt/colony/current/.venv/bin/python", "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--dest=/tmp")
    machine.run(*pip, "click", "pystemd")
    assert {path.name.split("-")[0] for path in machine.path("/tmp").glob("*-*.*")} >= {"click", "pystemd"}
