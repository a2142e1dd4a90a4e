"""Which secrets an agent may use where: what the server says, and where it stands in a request."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from colony import egress, files, schema
from colony.traces import Trace
from egress.head import Headers
from egress.policy import since_boot
from egress.refusals import Blind
from egress.settings import Secret

if TYPE_CHECKING:
    from egress.authority import Authority

TLS_PORT = 443
TRUSTED, AUTHORITY = "ca.pem", "gate.pem"  # beside the gate's socket
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_BASIC = re.compile(rb"[Bb]asic +([A-Za-z0-9+/=]+)")


@dataclass(frozen=True)
class Bound:
    """A secret that goes to a host."""

    name: str
    value: Secret
    placeholder: str
    header: str | None
    in_path: bool = False  # it is put into the request's path and query as well

    @property
    def raw(self) -> bytes:
        return self.value.reveal().encode()

    @property
    def forms(self) -> list[bytes]:
        """What must not come back: the value, and the header's as a whole, which a host might encode as one."""
        return [self.raw] if self.header is None else [self.raw, self.header.partition(": ")[2].encode().replace(b"{}", self.raw)]

    def put_into(self, target: str, headers: Headers) -> tuple[str, Headers]:
        """The request with the secret in its place: a header of its own, or where its placeholder stands in `Authorization`.

        Nowhere else, or whoever has an agent write it there could read what the host shows others: names of files, of clients.
        """
        if self.in_path:
            target = target.replace(self.placeholder, self.value.reveal())
        if self.header is not None:
            name, _, template = self.header.partition(": ")
            key = name.lower().encode()
            kept = [(known, value) for known, value in headers if known != key]
            return target, [*kept, (key, template.replace("{}", self.value.reveal()).encode())]
        mark = self.placeholder.encode()
        return target, [(name, self._replaced(value, mark) if name == b"authorization" else value) for name, value in headers]

    def _replaced(self, value: bytes, mark: bytes) -> bytes:
        if found := _BASIC.fullmatch(value):
            try:
                said = base64.b64decode(found[1], validate=True)
            except ValueError:
                return value
            return b"Basic " + base64.b64encode(said.replace(mark, self.raw)) if mark in said else value
        return value.replace(mark, self.raw)


@dataclass(frozen=True)
class _Entry:
    bound: Bound
    targets: Sequence[tuple[str, int]]

    def goes_to(self, host: str, port: int) -> bool:
        return any(port == each and _covers(pattern, host) for pattern, each in self.targets)


class Vault:
    """The secrets of all agents. One thread tells it what it hears; any may ask."""

    def __init__(self, away_seconds: float, trusted: Path, clock: Callable[[], float] = since_boot) -> None:
        """`trusted` is the folder where sandboxes find what they trust. Raises `OSError` where that can't be written."""
        self._away_seconds, self._trusted, self._clock = away_seconds, trusted, clock
        self._authority: Authority | None = None
        _publish(trusted)
        self._entries: dict[str, list[_Entry]] = {}
        self._traces: dict[str, Trace] = {}
        self._version: str | None = None
        self._heard_at = 0.0

    def __repr__(self) -> str:
        return f"Vault({len(self._entries)} agents)"

    @property
    def version(self) -> str | None:
        return self._version

    @property
    def authority(self) -> Authority:
        """What makes the gate each host that a secret goes to. Only where there are secrets."""
        assert self._authority
        return self._authority

    def hear(self, news: schema.EgressSecrets) -> bool:
        """What the server says now; whether that is news."""
        is_news = news.version != self._version
        if news.agents and self._authority is None:  # before the first secret counts: it takes a moment
            from egress.authority import Authority

            authority = Authority()
            _publish(self._trusted, authority.pem)
            self._authority = authority
        if is_news:
            self._entries = {user: [_entry(each) for each in theirs] for user, theirs in news.agents.items()}
            self._traces = {user: Trace(value) for user, value in news.honeytokens.items()}
        self._version, self._heard_at = news.version, self._clock()
        return is_news

    def bound(self, user: str, host: str, port: int) -> list[Bound]:
        """The secrets that this agent's requests to that host take along. Raises `Blind` where they may be others by now."""
        found = [entry.bound for entry in self._entries.get(user, ()) if entry.goes_to(host, port)]
        if found and self._clock() - self._heard_at > self._away_seconds:
            raise Blind("the colony's server has been away for too long to know which secrets still hold")
        return found

    def trace(self, user: str) -> Trace | None:
        """The agent's honeytoken, which must not go out."""
        return self._traces.get(user)

    def require(self, user: str, host: str, port: int, used: Sequence[Bound]) -> None:
        """Raises `Blind` unless the agent still has these for that host."""
        if list(used) != self.bound(user, host, port):
            raise Blind("the secrets for this host have changed")


def _publish(folder: Path, pem: bytes = b"") -> None:
    """Write what sandboxes trust: the gate's own authority, and that beside what this machine trusts, for programs that take one file."""
    system = SYSTEM_BUNDLE.read_bytes() if SYSTEM_BUNDLE.exists() else b""
    for name, content in ((AUTHORITY, pem), (TRUSTED, system + pem)):
        files.write(folder, name, content)
        (folder / name).chmod(0o644)


def _entry(found: schema.EgressSecret) -> _Entry:
    targets = []
    for text in found.hosts:
        host, ports = egress.split(text)
        targets.append((host, ports[0] if ports else TLS_PORT))
    return _Entry(Bound(found.name, Secret(found.value), found.placeholder, found.header, found.in_path), targets)


def _covers(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and not egress.is_address(host)
    return host == pattern
