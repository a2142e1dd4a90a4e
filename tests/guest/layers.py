"""What many guests of a test run start from: built once in a guest of its own, whose changes then lie under theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.guest.disk import Changes
from tests.guest.guest import Guest
from tests.guest.places import locked, unmount

CHECKOUT = Path(__file__).parents[2]
SOURCE = "/usr/src/colony"  # where a guest sees the checkout, read-only
WHEELS = "/var/cache/wheels"  # where it sees all that the project is installed from
INSTALL = ("make", "--directory", SOURCE, "install")
INSTALLS_WITHIN = 900.0  # seconds, on a slow machine that must build wheels
PIP = f"[global]\nno-index = true\nfind-links = {WHEELS}\ndisable-pip-version-check = true\n"


class Layers:
    """The layers of a test run, in a folder that all its processes know and one of them owns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def installed(self) -> Path:
        """The layer in which Colony was installed from this checkout. Guests over it want `binds`."""
        return self.get("installed", install, self.binds())

    def binds(self) -> dict[str, Path]:
        """What a guest must see to install Colony, again or from a changed copy of the checkout."""
        return {SOURCE: CHECKOUT, WHEELS: self._wheels()}

    def get(self, name: str, build: Callable[[Guest], None], binds: Mapping[str, Path] | None = None) -> Path:
        """The layer of that name. Who asks first has it built; all others wait, and fail if that fails."""
        changes = Changes(self._folder / name)
        with locked(self._mark(name, "lock")):
            if self._mark(name, "failed").exists():
                raise AssertionError(self._mark(name, "failed").read_text())
            if not self._mark(name, "ready").exists():
                self._build(name, changes, build, binds or {})
        return changes.upper

    def _build(self, name: str, changes: Changes, build: Callable[[Guest], None], binds: Mapping[str, Path]) -> None:
        try:
            changes.mount()
            with Guest(changes=changes, binds=binds) as guest:
                build(guest)
                guest.power_off()
        except Exception as error:
            unmount(changes.folder)
            self._mark(name, "failed").write_text(f"the layer {name} could not be built: {error}")
            raise
        self._mark(name, "ready").touch()

    def _wheels(self) -> Path:
        folder = self._folder / "wheels"
        with locked(self._mark("wheels", "lock")):
            if not self._mark("wheels", "ready").exists():
                download(folder)
                self._mark("wheels", "ready").touch()
        return folder

    def _mark(self, name: str, what: str) -> Path:
        return self._folder / f"{name}.{what}"


def install(guest: Guest) -> None:
    """Install Colony as on any machine, without a network."""
    guest.write("/etc/pip.conf", PIP)
    guest.run(*INSTALL, seconds=INSTALLS_WITHIN)


def download(folder: Path) -> None:
    """Fetch all that the project is installed from, as this machine's pip is set to: from an index, its cache, or folders."""
    locks = [CHECKOUT / "requirements" / f"{name}.lock" for name in ("build", "host")]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--require-hashes", f"--dest={folder}"]
    pip = [sys.executable, "-m", "pip", "download", *options, *(f"--requirement={lock}" for lock in locks)]
    ran = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=INSTALLS_WITHIN)
    assert ran.returncode == 0, f"pip could not download what a guest installs (is the network up?):\n{ran.stderr}"
