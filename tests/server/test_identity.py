"""Who calls: what the kernel says on the unix socket, and tokens."""

from __future__ import annotations

import json
import os

import pytest

from colony import errors, operations, schema
from server.database import open_database, sqlite_url
from server.models import base
from server.models import user as users
from tests.server.cast import WRONG_TOKEN, token_of
from tests.server.machine import as_user
from tests.server.serving import Server
from tests.server.support import Colony

# Speaks HTTP by hand, so that a user who can't read this checkout can run it.
ASK_WHOAMI = """
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
extra = "".join(f"{header}\\r\\n" for header in sys.argv[2:])
line.sendall(f"GET /api/whoami HTTP/1.0\\r\\nHost: colony\\r\\n{extra}\\r\\n".encode())
answer = b""
while part := line.recv(65536):
    answer += part
print(answer.partition(b"\\r\\n\\r\\n")[2].decode())
"""


def whoami(server: Server, uid: int, *headers: str) -> dict[str, object]:
    """What the server answers a process of this uid, which has no group in common with it."""
    found: dict[str, object] = json.loads(as_user(uid, ASK_WHOAMI, str(server.socket), *headers))
    return found


def map_linux_user(server: Server, name: str, linux_user: str) -> None:
    database = open_database(sqlite_url(server.database))
    request = schema.CreateUser(username=name, kind="agent", linux_user=linux_user)
    database.write(lambda connection: users.create(connection, request, base.now()))
    database.close()


def test_the_kernel_says_who_calls_on_the_socket(server: Server) -> None:
    map_linux_user(server, "moth", "nobody")
    assert whoami(server, 65534)["username"] == "moth"
    assert whoami(server, 65534)["is_admin"] is False
    stranger = whoami(server, 54321)
    assert (stranger["code"], "54321" in str(stranger["detail"])) == ("unauthenticated", True)


def test_nothing_that_a_caller_says_changes_what_the_kernel_says(server: Server) -> None:
    map_linux_user(server, "moth", "nobody")
    for header in ("X-Forwarded-User: ann", "Remote-User: root", "X-Real-Uid: 0", "SCRIPT_NAME: /x", "X-Forwarded-For: 127.0.0.1"):
        assert whoami(server, 65534, header)["username"] == "moth"
        assert whoami(server, 54321, header)["code"] == "unauthenticated"


def test_a_token_decides_before_the_uid_and_a_wrong_one_never_falls_back_to_it(server: Server) -> None:
    map_linux_user(server, "moth", "nobody")
    assert whoami(server, 65534, f"Authorization: Bearer {token_of('bob')}")["username"] == "bob"
    for wrong in (f"Bearer {WRONG_TOKEN}", "Bearer", "Bearer ", "Basic YW5uOng=", "nonsense", f"bearer  {WRONG_TOKEN}"):
        assert whoami(server, 65534, f"Authorization: {wrong}")["code"] == "unauthenticated"
        assert whoami(server, os.geteuid(), f"Authorization: {wrong}")["code"] == "unauthenticated"


def test_the_servers_own_uid_administrates_and_acts_as_the_colony(server: Server) -> None:
    with server.client(over_socket=True) as me:
        found = me.call(operations.WHOAMI, schema.Whoami())
        assert (found.username, found.is_admin) == ("colony", True)
        me.call(operations.CREATE_USER, schema.CreateUser(username="zoe", kind="ape"))


def test_over_tcp_only_a_token_counts(server: Server) -> None:
    with server.client(token_of("ann")) as ann, server.client() as nobody, server.client(WRONG_TOKEN) as eve:
        assert ann.call(operations.WHOAMI, schema.Whoami()).username == "ann"
        assert not ann.call(operations.WHOAMI, schema.Whoami()).is_admin
        for stranger in (nobody, eve):
            with pytest.raises(errors.Unauthenticated):
                stranger.call(operations.WHOAMI, schema.Whoami())


def test_a_new_token_ends_the_old_one_at_once_and_is_kept_only_as_its_hash(server: Server) -> None:
    with server.client(over_socket=True) as admin, server.client(token_of("ann")) as ann:
        assert ann.call(operations.WHOAMI, schema.Whoami()).username == "ann"
        token = admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="ann")).token
        with pytest.raises(errors.Unauthenticated):
            ann.call(operations.WHOAMI, schema.Whoami())
        with server.client(token) as again:
            assert again.call(operations.WHOAMI, schema.Whoami()).username == "ann"
            again.call(operations.POST, schema.PostMessage(channel="general", body="hello"))
    server.stop()
    assert len(token) >= 43  # 256 bits in base64
    for path in [*server.home.glob("colony.db*"), server.home / "log"]:
        assert token.encode() not in path.read_bytes()
        assert token_of("ann").encode() not in path.read_bytes()
    assert users.token_hash(token).encode() in server.database.read_bytes()


def test_everyone_may_knock_at_the_socket_but_the_files_are_the_servers_alone() -> None:
    server = Server(None)
    try:
        server.start()
        assert server.socket.stat().st_mode & 0o666 == 0o666
        files = list(server.home.glob("colony.db*"))
        assert files
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    finally:
        server.close()


def test_tokens_of_strange_bytes_are_refused_not_crashed_on(colony: Colony) -> None:
    with colony.http() as http:
        for wrong in ("Bearer \x7f", "Bearer " + "x" * 5000, "Bearer a b c", "Bearer =;,", "Bearer ''", "\t", "Bearer null"):
            answer = http.get("/api/whoami", headers={"Authorization": wrong})
            assert answer.status_code == 401
