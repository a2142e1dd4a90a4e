"""The least that a durable Flask endpoint can do: parse JSON, make one insert through the colony's writer, answer JSON.

`python -m bench.bare FOLDER` serves it with the colony's own gunicorn settings, on FOLDER/bare.sock.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flask import Flask, request
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text

from server import process
from server.config import ServerConfig
from server.database import open_database, sqlite_url
from server.waiters import Waiters

posts = Table("posts", MetaData(), Column("id", Integer, primary_key=True), Column("body", Text, nullable=False))


class Bare(process._Server):
    """The colony's process with another application in it."""

    def load(self) -> Flask:
        return create_app(self._config.database_url)


def create_app(url: str) -> Flask:
    app = Flask(__name__, static_folder=None)
    database = open_database(url)
    app.extensions["gate"] = SimpleNamespace(waiters=Waiters(), database=database)  # which the process closes when it stops
    database.write(lambda connection: posts.create(connection, checkfirst=True))

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        return {"status": "ok"}

    @app.post("/posts")
    def post() -> dict[str, Any]:
        body = request.get_json()["body"]

        def work(connection: Connection) -> Any:
            return connection.execute(posts.insert(), {"body": body}).inserted_primary_key

        return {"id": database.write(work)[0], "body": body}

    return app


def main(folder: Path) -> None:
    Bare(ServerConfig(sqlite_url(folder / "bare.db")), process.Listen(folder / "bare.sock", 0, 1200)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
