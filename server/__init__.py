"""The colony's server: the only code that opens the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from flask import Flask

from server import http
from server import operations as operations  # registers every handler
from server.config import ServerConfig
from server.database import open_database
from server.gate import Gate
from server.models import base


def create_app(config: ServerConfig, clock: Callable[[], datetime] = base.now) -> Flask:
    """The WSGI application over a migrated database; its gate is `app.extensions["gate"]`."""
    app = Flask(__name__, static_folder=None)
    app.extensions["gate"] = gate = Gate(open_database(config.database_url), config, clock)
    http.mount(app, gate)
    return app
