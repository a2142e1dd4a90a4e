"""What comes back from a host that was given a secret, with asterisks where the secret stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from colony import traces

ASTERISK = b"*"
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")  # alphabets of larger letters, which nobody asks a host for


class Mask:
    """Of one message's body, whose pieces come one after the other. What comes out is as long as what went in."""

    def __init__(self, values: Iterable[bytes]) -> None:
        values = list(values)
        narrow = {form for value in values for form in traces.forms(value)}
        self._forms = sorted(narrow | {value.decode().encode(alphabet) for value in values for alphabet in WIDE})
        self._lower = {form.lower() for form in narrow}
        self._kept = b""  # that may be the beginning of a value
        self._hidden = 0  # bytes of the kept that belong to a value which began before them

    def __repr__(self) -> str:
        return "Mask(…)"

    def is_in_name(self, name: bytes) -> bool:
        """Whether a header's name, in lower case, holds a value."""
        return any(form in name for form in self._lower)

    def whole(self, data: bytes) -> bytes:
        """That, which is complete: a header's value."""
        return self._masked(data, 0, len(data))[0]

    def feed(self, data: bytes) -> bytes:
        """What may go on by now."""
        data = self._kept + data
        begins = min((_beginning(data, form) for form in self._forms), default=len(data))
        masked, end = self._masked(data, self._hidden, begins)
        self._kept, self._hidden = data[begins:], max(0, end - begins)
        return masked[:begins]

    def finish(self) -> bytes:
        """What was kept, when nothing comes after it."""
        masked, _ = self._masked(self._kept, self._hidden, len(self._kept))
        self._kept, self._hidden = b"", 0
        return masked

    def _masked(self, data: bytes, hidden: int, before: int) -> tuple[bytes, int]:
        """The values that begin before there masked, and where the last of them ends.

        They may overlap, so they are looked for in what came, not in what was masked.
        """
        masked, last = bytearray(data), hidden
        masked[:hidden] = ASTERISK * hidden
        for form in self._forms:
            for at in _places(data, form, before):
                masked[at : at + len(form)] = ASTERISK * len(form)
                last = max(last, at + len(form))
        return bytes(masked), last


def _places(data: bytes, form: bytes, before: int) -> Iterator[int]:
    at = data.find(form)
    while 0 <= at < before:
        yield at
        at = data.find(form, at + 1)


def _beginning(data: bytes, form: bytes) -> int:
    """Where the end of `data` begins that could become the form; its length if nowhere."""
    at = data.find(form[:1], max(0, len(data) - len(form) + 1))
    while at >= 0:
        if form.startswith(data[at:]):
            return at
        at = data.find(form[:1], at + 1)
    return len(data)
