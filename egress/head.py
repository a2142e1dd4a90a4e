"""The head of a request, read strictly: whatever two programs could read in two ways is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from egress import target
from egress.refusals import Malformed
from egress.target import Target

MAX_BYTES = 16 * 1024
MAX_HEADERS = 100
END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) ([!-~]+) HTTP/1\.([01])" % _TOKEN)
# Blanks are given back to nobody (`*+`): else a line of many that ends badly would take a second.
_HEADER = re.compile(rb"(%s):[ \t]*+((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*+" % _TOKEN)

# Meaningful between two machines only (RFC 9110, 7.6.1), or a wish to the gate.
_HOP_BY_HOP = frozenset(
    name.encode()
    for name in (
        *("connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)
_NEVER_NAMED = frozenset((b"host", b"content-length"))  # by `Connection`: the message would become another one

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Head:
    method: str
    target: str
    version: str  # "1.0" or "1.1"
    headers: Headers  # names in lower case

    @property
    def is_for_model(self) -> bool:
        return self.target.startswith("/")

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.headers if found == name]


def parsed(raw: bytes) -> Head:
    """The head that `raw` is, its empty line included. Raises `Malformed`."""
    first, *lines = raw.removesuffix(END).split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(first)
    if not request_line:
        raise Malformed("the first line is no request of HTTP/1.0 or 1.1")
    if len(lines) > MAX_HEADERS:
        raise Malformed(f"there are more than {MAX_HEADERS} headers")
    headers = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if not header:  # folded, without a colon, with a space before it, or with a bare CR, LF or NUL
            raise Malformed("a header line is malformed")
        headers.append((header[1].lower(), header[2]))
    method, where, minor = (part.decode("ascii") for part in request_line.groups())
    head = Head(method, where, f"1.{minor}", headers)
    _require_one_framing(head)
    return head


def end_to_end(headers: Headers) -> Headers:
    """The headers without those that end at the gate. Raises `Malformed` where `Connection` names one that never may."""
    named = {option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")}
    if named & _NEVER_NAMED:
        raise Malformed("Connection must not name Host or Content-Length")
    return [(name, value) for name, value in headers if name not in _HOP_BY_HOP and name not in named]


def require_same_host(head: Head, wanted: Target, default_port: int) -> None:
    """The `Host` says what the target says, if it says anything."""
    for value in head.values(b"host"):
        said = target.authority(value.decode("latin-1"), default_port)
        if said != wanted:
            raise Malformed("Host and the request's target differ")


def _require_one_framing(head: Head) -> None:
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(head.values(b"host")) > 1:
        raise Malformed("there is more than one Host")
    if lengths and codings:
        raise Malformed("there are both Content-Length and Transfer-Encoding")
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]{1,15}", length) for length in lengths):
        raise Malformed("Content-Length is no length")
    if codings and ([coding.lower() for coding in codings] != [b"chunked"] or head.version == "1.0"):
        raise Malformed("Transfer-Encoding is accepted as chunked only, in HTTP/1.1")
    if head.method == "CONNECT" and (codings or any(int(length) for length in lengths)):
        raise Malformed("CONNECT has no body")
