"""Who may reach what: host patterns, and the verdict on a connection. Pure, so that the server, the command and the gate decide alike."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from colony import errors

EVERYONE = "agents"  # whose rules are for all of them; no agent can be called so
WEB_PORTS = (80, 443)  # of an allow that names none
MAX_HOST = 253  # characters, as in DNS
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # resolvers read a name that ends in one as an address, in ways of their own


class Rule(Protocol):
    """What decides. `host` is a pattern as `pattern` gives it."""

    @property
    def effect(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def ports(self) -> Sequence[int]: ...


R = TypeVar("R", bound=Rule)


@dataclass(frozen=True)
class Verdict(Generic[R]):
    """`rule` is the one that decided, if one did."""

    is_allowed: bool
    reason: str
    rule: R | None = None


def decide(rules: Iterable[R], host: str, port: int) -> Verdict[R]:
    """The verdict on a connection to this host by name, before it is resolved: any deny wins, and without an allow it is one.

    A deny is read widely and an allow narrowly: without ports the one means all of them and the other 80 and 443; `*` denies
    addresses, too, but allows none. Whatever is no host is denied.
    """
    try:
        name = normal(host)
    except ValueError as error:
        return Verdict(False, f"the host {error}")
    allowing: R | None = None
    for rule in rules:
        if not _covers(rule, name, port):
            continue
        if rule.effect != "allow":
            return Verdict(False, f"denied by the rule for {rule.host}", rule)
        allowing = allowing or rule
    if allowing is None:
        return Verdict(False, "no rule allows it")
    return Verdict(True, f"allowed by the rule for {allowing.host}", allowing)


def normal(host: str) -> str:
    """A host's name or address in the one form in which it is compared: lower case, no trailing dot, addresses as short as can be.

    Raises `ValueError`, whose text goes on where "the host" began, for what can't be one.
    """
    if not host.isascii():
        raise ValueError("must be ASCII; an international name is written in its A-labels, like xn--bcher-kva.example")
    if host.startswith("[") and host.endswith("]"):
        return _address_6(host[1:-1])
    name = host.lower().removesuffix(".")
    if ":" in name:
        return _address_6(name)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address_4(name)
    if len(name) > MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("must be a name like pypi.org or an IP address, without scheme, path or user")
    return name


def pattern(host: str) -> str:
    """A rule's host in that form: a name or an address, `*.suffix` for every name below it, or `*`. Raises `ValueError` like `normal`."""
    if host == "*":
        return host
    if host.startswith("*."):
        suffix = normal(host[2:])
        if is_address(suffix):
            raise ValueError("must name an address as a whole")
        return f"*.{suffix}"
    if "*" in host:
        raise ValueError("must have its star alone, or in front as in *.pythonhosted.org")
    return normal(host)


def split(text: str) -> tuple[str, list[int]]:
    """The host and the ports of `HOST[:PORT[,PORT]…]`; an IPv6 address with ports stands in brackets. Raises `ValueError`."""
    host, mark, ports = text, "", ""
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        before, mark, ports = rest.partition(":")
        if before or not closing:
            raise _no_target(text)
    elif text.count(":") == 1:
        host, mark, ports = text.partition(":")
    numbers = ports.split(",") if mark else []
    if not host or not all(number.isascii() and number.isdigit() and len(number) <= 5 and 0 < int(number) < 65536 for number in numbers):
        raise _no_target(text)
    return host, [int(number) for number in numbers]


def joined(host: str, ports: Iterable[int] = ()) -> str:
    """What `split` takes apart."""
    numbers = ",".join(map(str, ports))
    return f"{f'[{host}]' if ':' in host and numbers else host}{':' if numbers else ''}{numbers}"


def is_address(host: str) -> bool:
    """Whether a host in its normal form is an IP address."""
    return ":" in host or bool(_NUMBER.fullmatch(host.rpartition(".")[2]))


def model_url(url: str) -> str:
    """The address of a model's API, without a slash at its end. Raises `Invalid`.

    Without TLS the key would be everybody's on the way: so only what listens on this machine may do without.
    """
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0 and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError as error:
        raise errors.Invalid(f"{url!r} is no address of a model's API: {error}") from error
    if not is_whole or parts.scheme not in ("https", "http") or not url.isascii() or not url.isprintable() or " " in url:
        raise errors.Invalid(f"{url!r} is no address of a model's API; give https://host[:port][/path]")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise errors.Invalid(f"{url!r} would send the key unprotected; http:// is for a loopback address only")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may lead anywhere, even localhost


def _covers(rule: Rule, name: str, port: int) -> bool:
    is_allow = rule.effect == "allow"
    if (rule.ports or is_allow) and port not in (rule.ports or WEB_PORTS):
        return False
    asked = rule.host.lower().removesuffix(".")
    if asked == "*":
        return not (is_allow and is_address(name))
    if asked.startswith("*."):
        return name.endswith(asked[1:]) and not is_address(name)
    return name == asked


def _address_4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("must be a whole IP address if it ends in a number: four numbers up to 255 without leading zeros") from None


def _address_6(text: str) -> str:
    try:
        found = ipaddress.IPv6Address(text.lower())
    except ValueError:
        raise ValueError("must be a name like pypi.org or an IP address, without scheme, path or user") from None
    if found.scope_id is not None:
        raise ValueError("must be an address without a zone")
    return str(found)


def _no_target(text: str) -> ValueError:
    return ValueError(f"{text!r} is no host; give one like pypi.org, example.org:443,8443 or [2001:db8::1]:443")
