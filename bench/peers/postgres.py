"""A private PostgreSQL cluster, on a unix socket alone, as durable as it comes."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Missing
from bench.processes import run, running


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The conninfo of an empty cluster within the folder. Raises `Missing` where PostgreSQL is not installed."""
    binaries = _binaries()
    user = _owner()
    if user:
        shutil.chown(folder, user)
        folder.parent.chmod(0o711)  # it must pass through
    data = folder / "data"
    run([binaries / "initdb", "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"], user=user)
    argv: list[str | Path] = [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "shared_buffers=64MB"]
    ready: list[str | Path] = [binaries / "pg_isready", "-q", "-h", folder]
    log = folder / "postgres.log"
    with running(argv, log, user=user, stop=signal.SIGINT, ready=lambda: _succeeds(ready)):
        yield f"host={folder} user=bench dbname=postgres"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if not (found or on_path):
        raise Missing("PostgreSQL is not installed")
    return (found[-1] if found else Path(str(on_path))).parent


def _owner() -> str | None:
    """Who runs it: it refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Missing("PostgreSQL refuses to run as root and there is no other user for it")


def _succeeds(argv: list[str | Path]) -> bool:
    try:
        run(argv)
    except RuntimeError:
        return False
    return True
