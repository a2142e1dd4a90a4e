"""In which forms a value stands in a text that is not to hold it: as it is, or as programs commonly write it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

ASTERISK = "*"


def forms(value: bytes) -> list[bytes]:
    """The value as it is, within JSON, percent-encoded, in hexadecimal digits, and in base64; the longest first."""
    text, percent, digits = value.decode("latin-1"), quote(value, safe=""), value.hex()
    lower = re.sub("%..", lambda found: found[0].lower(), percent)
    found = {value, json.dumps(text)[1:-1].encode(), *(form.encode() for form in (percent, lower, digits, digits.upper())), *_base64(value)}
    return sorted(found, key=lambda form: (-len(form), form))


def written(values: Iterable[str]) -> tuple[str, ...]:
    """All the forms of all these, the longest first: of two that share a beginning nothing is left over."""
    found = {form.decode("latin-1") for value in values for form in forms(value.encode())}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def cover(text: str, forms: Iterable[str]) -> str:
    """The text with asterisks in the place of these."""
    for form in forms:
        if form in text:
            text = text.replace(form, ASTERISK * len(form))
    return text


class Trace:
    """A value of lower-case letters, digits and hyphens, to be found in whatever goes out."""

    def __init__(self, value: str) -> None:
        self._plain = value.encode(), value.encode().hex().encode()  # names are told apart by no case
        self._encoded = [form for form in forms(value.encode()) if form not in self._plain]
        self.longest = max(map(len, (*self._plain, *self._encoded)))

    def __repr__(self) -> str:
        return "Trace(…)"

    def is_in(self, data: bytes) -> bool:
        lower = data.lower()
        return any(form in lower for form in self._plain) or any(form in data for form in self._encoded)

    def is_in_name(self, host: str) -> bool:
        """Whether a host's name holds it, perhaps spread over several labels."""
        return self.is_in(host.encode(errors="replace")) or self.is_in(host.replace(".", "").encode(errors="replace"))


class Tripwire:
    """Looks for it in what comes in pieces."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._kept = trace, b""

    def is_touched_by(self, data: bytes) -> bool:
        data = self._kept + data
        self._kept = data[1 - self._trace.longest :]
        return self._trace.is_in(data)


def _base64(value: bytes) -> Iterator[bytes]:
    """At each of the three places where it may begin, without what its neighbours share."""
    for before in range(3):
        begins, ends = -(-before * 8 // 6), (before + len(value)) * 8 // 6
        for encoded in (base64.b64encode(bytes(before) + value), base64.urlsafe_b64encode(bytes(before) + value)):
            yield encoded[begins:ends]
