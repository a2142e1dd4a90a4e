"""What can be asked of a machine that is up: commands as any of its users, its files, its units and their journal."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SOON = 20.0  # seconds within which a machine does what it will do


class Commands:
    """The commands and files of the machine whose init is the process `leader` here."""

    name: str
    leader: int

    def run(
        self,
        *argv: str | Path,
        user: str | None = None,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run it as root or as that user, in `/`, with a clean environment and `env`.

        If it fails and `check` is set, or is not done after `seconds` and so killed, the AssertionError shows all it wrote.
        """
        inside, clean = self._inside(argv, user), self._environment(user, env)
        try:
            ran = subprocess.run(inside, input=stdin or "", env=clean, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{_line(argv)} is not done after {seconds:.0f} s; it wrote: {late.stdout!r} {late.stderr!r}") from None
        assert not check or ran.returncode == 0, _said(argv, ran)
        return ran

    def start(self, *argv: str | Path, user: str | None = None, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start it as `run` does, with pipes. Whichever signal ends the Popen, in the machine it is SIGKILL."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self._inside(argv, user), env=self._environment(user, env), stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def wait_until(self, *argv: str | Path, user: str | None = None, seconds: float = SOON) -> str:
        """Run it again and again until it succeeds; gives what it wrote then."""
        deadline = time.monotonic() + seconds
        while (ran := self.run(*argv, user=user, check=False)).returncode:
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {_said(argv, ran)}"
            time.sleep(0.05)
        return ran.stdout

    def path(self, path: str | Path) -> Path:
        """The same file as it is reached from outside, until the machine ends. An absolute link in it would lead astray."""
        return Path(f"/proc/{self.leader}/root") / str(path).lstrip("/")

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """Write a file of root's; folders above are made."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Those properties of a unit, or all of them."""
        shown = self.run("systemctl", "show", name, *(f"--property={each}" for each in properties)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def journal(self, unit: str) -> str:
        """All that the unit has said and what systemd has said about it, from all boots."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--unit", unit, "--output=cat", "--quiet").stdout

    def _inside(self, argv: tuple[str | Path, ...], user: str | None) -> list[str]:
        # Only what nsenter forks enters the PID namespace. A shell forks instead of it: nsenter stops for good
        # when systemd stops all processes at a shutdown, and its dead child then holds the shutdown up.
        enter = ["nsenter", f"--target={self.leader}", "--all", "--no-fork", "--", "sh", "-c", '"$@"; exit $?', "sh"]
        # The shell is all that can be killed from here. And the machine's root shall not set this machine's clock.
        drop = ["setpriv", "--pdeathsig=KILL", f"--bounding-set={self._denied_capabilities()}"]
        if user:
            account = self._account(user)
            drop += [f"--reuid={account[2]}", f"--regid={account[3]}", "--init-groups"]
        return [*enter, *drop, "--", *map(str, argv)]

    def _denied_capabilities(self) -> str:
        """What its init may not do either, as setpriv takes it."""
        allowed = int(self._status("CapBnd"), 16)
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        return ",".join(f"-cap_{number}" for number in range(last + 1) if not allowed >> number & 1)

    def _status(self, field: str) -> str:
        return Path(f"/proc/{self.leader}/status").read_text().partition(f"\n{field}:")[2].split()[0]

    def _environment(self, user: str | None, env: Mapping[str, str] | None) -> dict[str, str]:
        account = self._account(user or "root")
        who = {"USER": account[0], "LOGNAME": account[0], "HOME": account[5], "SHELL": account[6]}
        return {"PATH": PATH, "LANG": "C.UTF-8", **who, **(env or {})}

    def _account(self, user: str) -> list[str]:
        for line in self.path("/etc/passwd").read_text().splitlines():
            if line.startswith(f"{user}:"):
                return line.split(":")
        raise LookupError(f"{self.name} has no user {user}")


def _said(argv: tuple[str | Path, ...], ran: subprocess.CompletedProcess[str]) -> str:
    return f"{_line(argv)} ended with {ran.returncode}\nstdout: {ran.stdout}\nstderr: {ran.stderr}"


def _line(argv: tuple[str | Path, ...]) -> str:
    return shlex.join(map(str, argv))
