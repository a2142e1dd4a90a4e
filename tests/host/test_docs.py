"""The script that the documentation shows does what it says, on a machine that has never seen Colony."""

from __future__ import annotations

import re

from tests.guest.guest import Guest
from tests.guest.layers import INSTALLS_WITHIN, PIP, SOURCE, Layers

SCRIPT = f"{SOURCE}/docs/life.sh"


def test_the_life_that_is_shown_is_lived(layers: Layers) -> None:
    with Guest(binds=layers.binds()) as machine:
        machine.write("/etc/pip.conf", PIP)
        first = machine.run("bash", SCRIPT, seconds=INSTALLS_WITHIN).stdout
        assert first.endswith("now: reboot; then: bash docs/life.sh again\n")
        machine.reboot()
        second = machine.run("bash", SCRIPT, "again").stdout
        steps = re.findall(r"^(.*?) +[0-9]+ ms$", first + second, re.MULTILINE)
        print(first + second)
        assert (steps[0], steps[1], steps[-2:]) == ("make install", "birth", ["death", "uninstall"])
        assert machine.run("getent", "passwd", "librarian", check=False).stdout == ""
