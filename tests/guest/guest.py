"""A throw-away Linux machine with a real systemd, over what is installed here: up in less than half a second.

It is for tests and no boundary for anything hostile: root in it is root here.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.guest import cgroups
from tests.guest.commands import Commands
from tests.guest.disk import Changes, mount_root
from tests.guest.places import Place

BOOTS_WITHIN = 60.0  # seconds
ENDS_WITHIN = 110.0  # seconds: systemd gives a service 90 to stop
REBOOTS = 133  # systemd-nspawn's exit code when its guest wants to be booted again
SYS_ADMIN = 1 << 21  # the capability to mount


def why_not() -> str | None:
    """Why this process can boot no guest, or None if it can."""
    if os.geteuid() != 0:
        return "a systemd guest needs root: sudo make test"
    for command, package in (("systemd-nspawn", "systemd-container"), ("dbus-daemon", "dbus")):
        if not shutil.which(command):
            return f"a systemd guest needs {command}: apt-get install {package}"
    if apart := [folder for folder in ("/etc", "/usr", "/var") if Path(folder).is_mount()]:
        return f"a systemd guest needs the whole system on one file system: {', '.join(apart)} is on its own"
    status = Path("/proc/self/status").read_text()
    if not int(status.partition("CapEff:")[2].split()[0], 16) & SYS_ADMIN:
        return "a systemd guest needs a root that may mount: this container has no CAP_SYS_ADMIN"
    return None


class Guest(Commands):
    """A machine that is up from `with` on, and gone afterwards.

    - `layers`: what earlier guests have changed (see `layers.py`), the newest first; none gives a Debian without Colony.
    - `changes`: where its own go, mounted and empty, if they shall outlive it; else `disk_bytes` is the size of its disk.
    - `memory_bytes`: what all its processes may take together.
    - `host_network`: it has this machine's network, ports included, instead of a loopback of its own.
    - `binds`: paths in the guest at which it sees folders of this machine, read-only.
    """

    def __init__(
        self,
        *,
        layers: Sequence[Path] = (),
        changes: Changes | None = None,
        disk_bytes: int | None = None,
        memory_bytes: int | None = None,
        host_network: bool = False,
        binds: Mapping[str, Path] | None = None,
    ) -> None:
        self._place = Place()
        self.name, self._folder = self._place.name, self._place.folder
        self.root = self._folder / "root"  # seen from outside, without what is mounted inside
        self._memory_bytes, self._host_network, self._binds = memory_bytes, host_network, binds or {}
        self._nspawn: subprocess.Popen[bytes] | None = None
        try:
            if changes is None:
                changes = Changes(self._folder / "disk")
                changes.mount(disk_bytes)
            mount_root(self.root, changes, layers)
        except BaseException:
            self._place.give_back()
            raise

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take it down at once, with everything of it."""
        self._place.give_back()
        if self._nspawn:
            self._nspawn.wait(10)

    def reboot(self) -> None:
        """An orderly reboot: services are stopped, and those that are enabled start again. `/tmp` and `/run` are new."""
        self._end(signal.SIGRTMIN + 5, REBOOTS)
        self._boot()

    def power_off(self) -> None:
        """An orderly end: services are stopped. Only `close` is left to be called."""
        self._end(signal.SIGRTMIN + 4, 0)

    def power_cut(self) -> None:
        """Everything in it dies at the same moment, and it boots again. What had been written to a file is still there."""
        assert self._nspawn
        os.kill(self.leader, signal.SIGKILL)  # the others in its PID namespace die with it
        self._nspawn.wait(10)
        self._boot()

    def console(self) -> str:
        """What it has said on its console, from all its boots."""
        return (self._folder / "console").read_text(errors="replace")

    def last_words(self) -> str:
        """The end of its journal, or of what it said on its console if it can't be asked any more."""
        try:
            said = self.run("journalctl", "--lines=100", "--output=short-precise", "--quiet", check=False, seconds=10).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        return said or self.console()[-5000:]

    def _end(self, order: int, exit_code: int) -> None:
        assert self._nspawn
        os.kill(self.leader, order)  # systemctl could be among those that it ends
        ended = self._nspawn.wait(ENDS_WITHIN)
        assert ended == exit_code, f"{self.name} ended with {ended}:\n{self.console()}"

    def _boot(self) -> None:
        cgroups.create(self.name, self._memory_bytes)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind("")  # an abstract address that the kernel chooses
            told.settimeout(0.1)
            address = "@" + told.getsockname()[1:].decode()
            with (self._folder / "console").open("ab") as console:
                self._nspawn = subprocess.Popen(
                    self._command(),
                    env={
                        "PATH": os.environ["PATH"],
                        "NOTIFY_SOCKET": address,
                        # Its filter keeps BPF from the guest, and without BPF IPAddressDeny= is ignored in silence.
                        "SYSTEMD_SECCOMP": "0",
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    start_new_session=True,  # Ctrl-C is for the tests
                    preexec_fn=lambda: cgroups.enter(self.name),
                )
            self._await_boot(told)

    def _command(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--settings=no",
            f"--directory={self.root}",
            f"--machine={self.name}",
            "--register=no",  # there may be no systemd-machined here, nor any systemd
            "--keep-unit",
            *cgroups.options(self.name),
            *([] if self._host_network else ["--private-network"]),
            *(f"--bind-ro={folder}:{path}" for path, folder in self._binds.items()),
            "--resolv-conf=replace-host",
            "--timezone=off",
            "--link-journal=no",
            "--console=read-only",
            "--notify-ready=yes",
            "--boot",
        ]

    def _await_boot(self, told: socket.socket) -> None:
        deadline = time.monotonic() + BOOTS_WITHIN
        said = ""
        while "\nREADY=1" not in said:
            assert self._nspawn
            assert self._nspawn.poll() is None, f"{self.name} does not boot:\n{self.console()}"
            assert time.monotonic() < deadline, f"{self.name} is not up after {BOOTS_WITHIN:.0f} s:\n{self.console()}"
            with suppress(TimeoutError):
                said += "\n" + told.recv(4096).decode()
        self.leader = int(said.partition("X_NSPAWN_LEADER_PID=")[2].split()[0])
