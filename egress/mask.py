"""What comes back from a host that was given a secret, with asterisks where the secret stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from colony import traces

ASTERISK = b"*"
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")  # alphabets of larger letters, which nobody asks a host for

PREFIX_BYTES = 8  # by which what may become a value is found quickly
# A value that repeats itself, in an answer that repeats it, is within itself at thousands of places, and to look at each takes a second.
MOST_WITHIN = 16  # that are looked at; what is masked or kept back then is more than it need be


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
            for at, end in _places(data, form, before):
                masked[at:end] = ASTERISK * (end - at)
                last = max(last, end)
        return bytes(masked), last


def _places(data: bytes, form: bytes, before: int) -> Iterator[tuple[int, int]]:
    """Where the form begins and ends, or from where on it may stand anywhere."""
    at, end, within = data.find(form), 0, 0
    while 0 <= at < before:
        within = within + 1 if at < end else 0
        if within == MOST_WITHIN:
            yield at, min(len(data), before + len(form))
            return
        end = at + len(form)
        yield at, end
        at = data.find(form, at + 1)


def _beginning(data: bytes, form: bytes) -> int:
    """Where the end of `data` begins that could become the form, or a little earlier; its length if nowhere."""
    begins = max(0, len(data) - len(form) + 1)
    prefix, tried = form[:PREFIX_BYTES], 0
    at = data.find(prefix, begins)
    while at >= 0:
        if tried == MOST_WITHIN or form.startswith(data[at:]):
            return at
        at, tried = data.find(prefix, at + 1), tried + 1
    for at in range(max(begins, len(data) - PREFIX_BYTES + 1), len(data)):
        if form.startswith(data[at:]):
            return at
    return len(data)
