"""Who calls: a bearer token, or the uid that the kernel reports for the other end of the unix socket."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from sqlalchemy import Column, Connection, bindparam, select

from colony import errors, schema
from colony.config import GATE_USER
from server.database import Database
from server.models.user import COLONY, seen, token_hash, users
from server.prepared import Prepared

CACHE_SECONDS = 2.0  # how long a revoked token may still work on another replica; on this one it ends at once
CACHE_ENTRIES = 4096
NOTED_EVERY_SECONDS = 3600.0  # that somebody was here: reading must not become writing
_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as in `man 7 unix`


def _living(column: Column[str]) -> Prepared:
    named = users.c.id, users.c.username, users.c.kind, users.c.honeytoken
    return Prepared(select(*named).where(column == bindparam("value"), users.c.status != "dead"))


_BY_TOKEN, _BY_LINUX_USER, _BY_NAME = _living(users.c.token_hash), _living(users.c.linux_user), _living(users.c.username)


class Credentials(NamedTuple):
    """What a request brought along. A token decides before the peer's uid."""

    token: str | None = None
    uid: int | None = None


@dataclass(frozen=True)
class Caller:
    id: int
    username: str
    kind: schema.Kind
    is_admin: bool = False
    is_peer: bool = False  # the kernel says so, and not a token, which may lie in anybody's file
    honeytoken: str | None = field(default=None, repr=False)  # an agent's, which it must not say

    @property
    def is_gate(self) -> bool:
        """Whether it is the egress gate, which holds all secrets: one account, and no token and no administrator speaks for it."""
        return self.is_peer and not self.is_admin and (self.username, self.kind) == (GATE_USER, "service")


@dataclass(frozen=True)
class Known:
    """Whom credentials meant when they were looked up."""

    caller: Caller
    credentials: Credentials
    era: object


class Identities:
    """Turns credentials into callers, remembering each for a moment."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock
        self._noted: dict[int, float] = {}  # until when that is enough
        self._known: dict[Hashable, tuple[Caller, float]] = {}

    def identify(self, credentials: Credentials) -> Caller:
        """Raises `Unauthenticated`."""
        known = self._known  # what is read before a `forget` must not be remembered after it
        found = known.get(credentials)
        if found and found[1] > monotonic():
            return found[0]
        with self._database.read() as connection:
            caller = _by_token(connection, credentials.token) if credentials.token else _by_uid(connection, credentials.uid)
        if len(known) >= CACHE_ENTRIES:
            known.clear()
        known[credentials] = caller, monotonic() + CACHE_SECONDS
        self._note(caller)
        return caller

    @property
    def era(self) -> object:
        """What is another object once users or tokens have changed."""
        return self._known

    def is_still(self, known: Known) -> bool:
        """Whether the credentials mean the same caller as then; costs nothing until users or tokens have changed."""
        try:
            return known.era is self._known or self.identify(known.credentials) == known.caller
        except errors.Unauthenticated:
            return False

    def forget(self) -> None:
        """Users or tokens have changed."""
        self._known = {}

    def _note(self, caller: Caller) -> None:
        """Write down that somebody was here; agents report by themselves."""
        if caller.kind == "agent" or self._noted.get(caller.id, 0.0) > monotonic():
            return
        self._noted[caller.id] = monotonic() + NOTED_EVERY_SECONDS
        with suppress(errors.Unavailable):  # a full disk keeps nobody out
            self._database.write(lambda connection: seen(connection, caller.id, self._clock()))


def peer_uid(connection: object) -> int | None:
    """The uid at the other end of a unix socket; None for anything else."""
    if not isinstance(connection, socket.socket) or connection.family != socket.AF_UNIX:
        return None
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return int(_PEER_CREDENTIALS.unpack(answer)[1])


def _by_token(connection: Connection, token: str) -> Caller:
    caller = _find(connection, _BY_TOKEN, token_hash(token))
    if caller is None:
        raise errors.Unauthenticated()
    return caller


def _by_uid(connection: Connection, uid: int | None) -> Caller:
    """Root and the server's own uid administrate; where they have no account they act as the colony itself."""
    if uid is None:
        raise errors.Unauthenticated()
    is_admin = uid in (0, os.geteuid())
    caller = _find(connection, _BY_LINUX_USER, _linux_user(uid), is_peer=True, is_admin=is_admin)
    if caller is None and is_admin:
        caller = _find(connection, _BY_NAME, COLONY, is_peer=True, is_admin=True)
    if caller is None:
        name = _linux_user(uid)
        raise errors.Unauthenticated(f"Linux user {name} is no user of this colony; sudo colony-server user add {name} --linux-user {name}")
    return caller


def administrators() -> set[str]:
    """The Linux users who administrate, whatever account they have."""
    return {_linux_user(uid) for uid in (0, os.geteuid())}


def _linux_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _find(connection: Connection, by: Prepared, value: str, *, is_peer: bool = False, is_admin: bool = False) -> Caller | None:
    row = by.first(connection, {"value": value})
    return Caller(row.id, row.username, row.kind, is_admin, is_peer, row.honeytoken) if row else None
