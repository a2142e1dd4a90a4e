"""The fixtures themselves."""

from __future__ import annotations

import time
from pathlib import Path

from colony import operations, schema
from tests.server.cast import token_of
from tests.server.serving import Server
from tests.server.support import Colony


def test_the_cast_is_there(colony: Colony) -> None:
    names = {user.username: user.status for user in colony.ann.call(operations.USERS, schema.ListUsers()).users}
    assert names == dict.fromkeys(("ann", "bob", "scout", "rook", "colony"), "healthy")
    assert colony.admin.call(operations.WHOAMI, schema.Whoami()).is_admin


def test_a_server_starts_in_seconds_and_leaves_no_process(sqlite_file: Path) -> None:
    server = Server(sqlite_file)
    began = time.monotonic()
    try:
        server.start()
        took = time.monotonic() - began
        with server.client(token_of("ann")) as ann:
            assert ann.call(operations.WHOAMI, schema.Whoami()).username == "ann"
        family = server.processes()
        assert len(family) >= 2
        assert server.stop() == 0
        assert not any(each.is_running() for each in family)
        assert took < 10  # it takes one, on a machine that has nothing else to do
    finally:
        server.close()
    assert not server.home.exists()
