"""Where the parts of a message end, found before h11 reads it: that is quick with what is usual, but takes seconds for what is made up."""

from __future__ import annotations

import re

MAX_HEAD = 64 * 1024  # of an answer
MAX_LINES = 256  # of that
MAX_HEADS = 16  # of one answer, those that only inform among them
MAX_LINE = 1024  # before a chunk, and of a trailer
MAX_TRAILERS = 100
CHUNKS_PER_TURN = 512  # half a millisecond's; then other connections have their turn
_END = re.compile(rb"\n\r?\n")
# h11 tries each of many blanks as the end of a value; and one line for each would make a value of many, when it is unfolded.
_SLOW = re.compile(rb"[ \t]{256}|\n[ \t]")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\r\n\0]*+|[ \t]*+)\r\n")


class Broken(ValueError):
    """It is no HTTP, or none that anybody would send."""


class Chunks:
    """Makes one chunk of all that has come of a body in chunks (RFC 9112, 7.1), however small they are. Trailers end here."""

    def __init__(self) -> None:
        self._kept = b""  # of a line that is not complete
        self._left = 0  # of a chunk's data
        self._begins = b""  # what the next size stands behind: the end of the chunk before
        self._trailers = 0
        self._is_last = self._is_over = False
        self.is_behind = False  # there is more in what came than was looked at; `feed` goes on with it

    def feed(self, arrived: bytes = b"") -> bytes:
        """What can be read by now, in one chunk; it may be nothing, unless this is behind. Raises `Broken`."""
        said, at = self._kept + arrived, 0
        pieces: list[bytes] = []
        while not self._is_last and len(pieces) < CHUNKS_PER_TURN:
            if self._left:
                pieces.append(said[at : at + self._left])
                at, self._left = at + len(pieces[-1]), self._left - len(pieces[-1])
            if self._left or not said.startswith(self._begins, at):
                break
            found = _SIZE.match(said, at + len(self._begins))
            if not found:
                break
            at, self._left, self._begins = found.end(), int(found[1], 16), b"\r\n"
            self._is_last = not self._left
        self._kept, data = said[at:], b"".join(pieces)
        self.is_behind = not self._is_last and len(pieces) == CHUNKS_PER_TURN
        end = b"" if self.is_behind else self._ended()
        return (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + end

    def _ended(self) -> bytes:
        """The end of the body, if that is here now."""
        if self._is_over:  # what follows is nobody's
            self._kept = b""
            return b""
        while self._is_last and (end := self._kept.find(b"\r\n")) >= 0:
            self._trailers, self._kept = self._trailers + 1, self._kept[end + 2 :]
            if end == 0:
                self._is_over = True
                return b"0\r\n\r\n"
        if len(self._kept) > MAX_LINE or self._trailers > MAX_TRAILERS or not (self._is_last or self._may_become_a_size()):
            raise Broken
        return b""

    def _may_become_a_size(self) -> bool:
        if len(self._kept) < len(self._begins):
            return self._begins.startswith(self._kept)
        return self._kept.startswith(self._begins) and b"\r\n" not in self._kept[len(self._begins) :]


class Answer:
    """Gives out an answer as h11 may read it: each head alone, and of the body what has come. `more` is what comes."""

    def __init__(self) -> None:
        self._said, self._looked_at = bytearray(), 0
        self._heads = 0
        self._is_body, self._chunks = False, Chunks()
        self._is_chunked = False

    def more(self, arrived: bytes) -> None:
        self._said += arrived

    def begin_body(self, *, is_chunked: bool) -> None:
        self._is_body, self._is_chunked = True, is_chunked

    def next(self) -> bytes:
        """Nothing: more has to come. Raises `Broken`."""
        if not self._is_body:
            return self._head()
        said, self._said = bytes(self._said), bytearray()
        return self._chunks.feed(said) if self._is_chunked and (said or self.is_behind) else said

    @property
    def is_behind(self) -> bool:
        """Whether there is more to be given out, when others have had their turn."""
        return self._chunks.is_behind

    def _head(self) -> bytes:
        found = _END.search(self._said, max(0, self._looked_at - 2))
        end = self._looked_at = found.end() if found else len(self._said)
        if end > MAX_HEAD:
            raise Broken
        if not found:
            return b""
        head = bytes(self._said[:end])
        del self._said[:end]
        self._looked_at, self._heads = 0, self._heads + 1
        if self._heads > MAX_HEADS or head.count(b"\n") > MAX_LINES or _SLOW.search(head):
            raise Broken
        return head
