"""Disks for tests: small ones that fill up, and the real server on them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.server.machine import as_root
from tests.server.serving import Server

MEGABYTES = 16


class Disk:
    """A mount of its own. A test that can't mount fails: what a full disk does must be seen."""

    def __init__(self, path: Path, megabytes: float = MEGABYTES) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        as_root("mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k,uid={os.geteuid()},mode=700", "tmpfs", path)

    def reserve(self, megabytes: int) -> None:
        """Take some of it, for `free` to give back."""
        (self.path / "ballast").write_bytes(bytes(megabytes * 2**20))

    def fill(self) -> None:
        """Take all that is left."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4096))

    def free(self) -> None:
        """Give back what was taken."""
        (self.path / "ballast").unlink()

    def remount(self, options: str) -> None:
        as_root("mount", "-o", f"remount,{options}", self.path)

    def close(self) -> None:
        as_root("umount", "--lazy", self.path)


@contextmanager
def disk(path: Path, megabytes: float = MEGABYTES) -> Iterator[Disk]:
    mounted = Disk(path, megabytes)
    try:
        yield mounted
    finally:
        mounted.close()


class ServerOn(Server):
    """The real server, on a database that lies elsewhere."""

    def __init__(self, database: Path) -> None:
        super().__init__(None)
        self.database = database

    def command(self) -> list[str]:
        script, *arguments = super().command()
        return [script, "--database", f"sqlite:///{self.database}", *arguments]


class CrampedServer(ServerOn):
    """The real server, whose database alone lives on a small disk; `disk.free` gives it some room."""

    def __init__(self, template: Path) -> None:
        super().__init__(Path())
        self.disk = Disk(self.home / "data")
        self.database = self.disk.path / "colony.db"
        self.database.write_bytes(template.read_bytes())
        self.disk.reserve(4)

    def close(self) -> None:
        try:
            if self.process and self.process.poll() is None:
                self.stop()
        finally:
            self.disk.close()
            super().close()


def refused(server: Server) -> tuple[int, str]:
    """The exit code and the words of a server that does not start."""
    ran = subprocess.run(server.command(), capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stderr
