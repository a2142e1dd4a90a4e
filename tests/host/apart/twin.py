"""A service like another in everything but what it runs."""

from __future__ import annotations

import re

from tests.guest.guest import Guest

NAME = "twin.service"
SAID = "/run/said"
_OF_ITS_LIFE = re.compile(r"(?m)^(Type|NotifyAccess|ExecStart|WatchdogSec|Restart\w*|StartLimit\w*|RuntimeDirectory\w*)=.*\n")


def run(machine: Guest, unit: str, argv: tuple[str, ...], drop_in: str = "") -> str:
    """What the program says there, once it has ended well; `drop_in` takes a setting away."""
    start(machine, unit, argv, drop_in, "oneshot")
    return machine.path(SAID).read_text()


def start(machine: Guest, unit: str, argv: tuple[str, ...], drop_in: str = "", kind: str = "exec") -> None:
    text = machine.path(f"/etc/systemd/system/{unit}").read_text()
    machine.write(f"/etc/systemd/system/{NAME}", _OF_ITS_LIFE.sub("", text))
    lines = ("[Service]", f"Type={kind}", f"ExecStart={' '.join(argv)}", f"StandardOutput=truncate:{SAID}", "TimeoutStartSec=180", drop_in)
    machine.write(f"/etc/systemd/system/{NAME}.d/twin.conf", "\n".join(lines) + "\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", NAME, seconds=200)


def stop(machine: Guest) -> None:
    machine.run("systemctl", "stop", NAME)
