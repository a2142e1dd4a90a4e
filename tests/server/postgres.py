"""A private PostgreSQL for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text

from server.database import open_database
from tests.server.cast import settle_cast
from tests.server.machine import die_with_parent

POSTGRES_FOLDERS = "/usr/lib/postgresql/*/bin"


class Postgres:
    """A private PostgreSQL on a unix socket in /tmp, for as long as this process lives."""

    def __init__(self) -> None:
        binaries = sorted(Path("/").glob(POSTGRES_FOLDERS.lstrip("/") + "/initdb"))
        assert binaries, f"no PostgreSQL in {POSTGRES_FOLDERS}: apt-get install postgresql (these tests are never skipped)"
        self._binaries = binaries[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="colony-pg-", dir="/tmp"))
        self._as: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._databases = 0
        self._engines: list[Engine] = []
        try:
            self._initialise()
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        self.create("template_house")
        database = open_database(self.url("template_house"))
        database.write(settle_cast)
        database.close()

    def _initialise(self) -> None:
        options = ["--username=colony", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        make: list[str | Path] = [self._binaries / "initdb", "--pgdata", self.folder / "data", *options]
        made: subprocess.CompletedProcess[bytes] = subprocess.run(make, cwd="/", capture_output=True, check=False, **self._as)
        assert made.returncode == 0, made.stderr.decode()

    def _start(self) -> subprocess.Popen[bytes]:
        fast = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200", "autovacuum=off")
        where = ("listen_addresses=", f"unix_socket_directories={self.folder}")
        options = [part for setting in fast + where for part in ("-c", setting)]
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [self._binaries / "postgres", "-D", self.folder / "data", *options],
            cwd="/",
            stderr=(self.folder / "log").open("ab"),
            preexec_fn=die_with_parent,  # after the change of user, which would clear it
            **self._as,
        )
        deadline = time.monotonic() + 30
        while subprocess.run([self._binaries / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.05)
        return process

    def url(self, database: str) -> str:
        return f"postgresql://colony@/{database}?host={self.folder}"

    def fresh(self) -> str:
        """The URL of a new database with the standing cast."""
        self._databases += 1
        name = f"house_{self._databases}"
        self.create(name, template="template_house")
        return self.url(name)

    def create(self, name: str, template: str = "template1") -> str:
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self._run(f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]} WITH (FORCE)")

    def restart(self, pause_seconds: float = 0) -> None:
        """End every connection and start again; the databases stay."""
        self._process.send_signal(signal.SIGINT)  # a fast shutdown
        self._process.wait(30)
        for engine in self._engines:
            engine.dispose()
        time.sleep(pause_seconds)
        self._process = self._start()

    def query(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What the cluster itself says, outside any transaction."""
        engine = create_engine(self.url(database).replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(statement))]
        finally:
            engine.dispose()

    def _run(self, statement: str) -> None:
        if not self._engines:
            url = self.url("postgres").replace("postgresql:", "postgresql+psycopg:")
            self._engines.append(create_engine(url, isolation_level="AUTOCOMMIT"))
        with self._engines[0].connect() as connection:
            connection.execute(text(statement))

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(20)
        shutil.rmtree(self.folder)
