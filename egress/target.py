"""Where a request wants to go: a host and a port, in the one form that rules are written in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from colony import egress
from egress import address
from egress.refusals import Malformed

HTTP_PORT = 80
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?", re.DOTALL)
_ABSOLUTE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>.*)", re.DOTALL)


@dataclass(frozen=True)
class Target:
    host: str  # lower case, without a trailing dot, or an IP address in its shortest form
    port: int

    def authority(self, default_port: int) -> str:
        """As a `Host` header says it, where that port need not be said."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default_port else f"{host}:{self.port}"


def host(text: str) -> str:
    """The host of a rule's form. Raises `Malformed` for what is neither a name nor one plain form of an IP address."""
    try:
        name = egress.normal(text)
        return str(address.parsed(name)) if egress.is_address(name) else name
    except ValueError as error:
        raise Malformed(f"the host {error}") from error


def authority(text: str, default_port: int | None = None) -> Target:
    """`host:port`, without a user. Raises `Malformed`."""
    if "@" in text:
        raise Malformed("a user in the address is not accepted")
    found = _AUTHORITY.fullmatch(text)
    if not found:
        raise Malformed(f"{text[:100]!r} is no host with a port")
    return Target(host(found["host"]), _port(found["port"], default_port))


def absolute(text: str) -> tuple[Target, str]:
    """The target and the path of `http://host[:port]/path?query`. Raises `Malformed`."""
    found = _ABSOLUTE.fullmatch(text)
    if not found or "#" in text:
        raise Malformed("the request names no address; ask for http://host/path, or CONNECT host:port")
    if found["scheme"].lower() != "http":
        raise Malformed(f"{found['scheme'][:20]}: is not forwarded; use CONNECT host:port")
    path = found["path"]
    return authority(found["authority"], HTTP_PORT), path if path.startswith("/") else f"/{path}"


def _port(text: str | None, default: int | None) -> int:
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise Malformed(f"the port must be 1 to 65535, not {(text or 'missing')[:20]!r}")
    return int(text)
