"""What a client says first in a tunnel: whether that is TLS, and which host it asks for. What follows its ClientHello nobody reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from egress.refusals import Malformed, OtherHost

MAX_BYTES = 16 * 1024  # of a ClientHello with its records; the largest that clients send are of some 2 KiB
MAX_RECORDS = 64  # that it may be cut into
UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))  # a fatal alert (RFC 6066)
_RECORDS = range(20, 25)  # the kinds of TLS records, which no other protocol's first byte is
_MAJOR = b"\x03"  # of the version, in all of them
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_HOST_NAME, _SERVER_NAME = 0, 0
_HIDING = frozenset((0xFE0D, 0xFFCE))  # encrypted_client_hello (RFC 9849), and the draft that hid the name alone


@dataclass(frozen=True)
class Hello:
    """`name` is the host that TLS asks for; None: it names none. `is_hiding` means that it may ask for another one, unseen."""

    name: bytes | None = None
    is_hiding: bool = False

    def require(self, host: str) -> None:
        """Raises `OtherHost` unless it asks for that host alone."""
        if self.is_hiding:
            raise OtherHost("TLS in the tunnel hides which host it asks for; turn the client's ECH off")
        if self.name is not None and self.name.lower() != host.encode():
            raise OtherHost(f"TLS in the tunnel asks for {self.name[:100].decode('ascii', 'backslashreplace')!r}")


class Listener:
    """Hears a client in a tunnel to that host out, until it has said enough to be judged. `said` is what it has said."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.said = b""

    def hear(self, arrived: bytes) -> bool:
        """Whether what it has said may be passed on, and all that follows; not before a ClientHello is whole. Nothing is its end.

        Raises `OtherHost`, `Malformed`.
        """
        if not arrived:
            if self.said:
                raise Malformed("TLS in the tunnel broke off in its first message")
            return True
        self.said += arrived
        asked = parsed(self.said)
        if asked:
            asked.require(self._host)
        return asked is not None


def parsed(said: bytes) -> Hello | None:
    """What the first bytes of a connection ask for; None while that takes more of them. What is no TLS asks for nothing.

    Raises `Malformed` for what begins like TLS and is no ClientHello, or one that two programs could read in two ways.
    """
    if said[0] not in _RECORDS or said[1:2] not in (b"", _MAJOR):
        return Hello()
    if len(said) == 1:
        return None
    message = bytearray()
    for fragment in _fragments(said):
        message += fragment
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return _hello(_Reader(bytes(message)))
    if len(said) >= MAX_BYTES:
        raise _unreadable("is too large")
    return None


def _fragments(said: bytes) -> Iterator[bytes]:
    """What the whole records hold of the handshake, in the order in which they came."""
    at = 0
    for _ in range(MAX_RECORDS):
        if len(said) > at and said[at] != _HANDSHAKE:
            raise _unreadable("begins with no handshake")
        end = at + 5 + int.from_bytes(said[at + 3 : at + 5])
        if len(said) < max(end, at + 5):
            return
        if end == at + 5:
            raise _unreadable("has an empty record")
        yield said[at + 5 : end]
        at = end
    raise _unreadable("is in too many records")


class _Reader:
    """Takes a message apart, from its beginning."""

    def __init__(self, left: bytes) -> None:
        self.left = left

    def take(self, count: int) -> bytes:
        if len(self.left) < count:
            raise _unreadable("is shorter than it says")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> _Reader:
        """What a length of so many bytes stands before."""
        return _Reader(self.take(self.number(size)))

    def end(self) -> None:
        if self.left:
            raise _unreadable("is longer than it says")


def _hello(message: _Reader) -> Hello:
    """As in RFC 8446, 4.1.2."""
    if message.number(1) != _CLIENT_HELLO:
        raise _unreadable("begins with another handshake")
    body = message.vector(3)
    message.end()
    body.take(2 + 32)  # version, random
    for size in (1, 2, 1):  # session, cipher suites, compression
        body.vector(size)
    extensions: dict[int, _Reader] = {}
    block = body.vector(2) if body.left else _Reader(b"")
    body.end()
    while block.left:
        kind = block.number(2)
        if kind in extensions:
            raise _unreadable("says something twice")
        extensions[kind] = block.vector(2)
    named = extensions.get(_SERVER_NAME)
    return Hello(_name(named) if named else None, not _HIDING.isdisjoint(extensions))


def _name(extension: _Reader) -> bytes:
    """As in RFC 6066, 3."""
    names = extension.vector(2)
    extension.end()
    if names.number(1) != _HOST_NAME:
        raise _unreadable("names what is no host")
    name = names.vector(2)
    names.end()
    return name.left


def _unreadable(what: str) -> Malformed:
    return Malformed(f"TLS in the tunnel can't be read: its first message {what}")
