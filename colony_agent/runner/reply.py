"""Makes what a runner wrote fit for a message."""

from __future__ import annotations

from colony import schema

CUT = f"\n\n_(cut here: a message holds at most {schema.MAX_BODY_BYTES // 1024} KiB)_"


def storable(text: str) -> str:
    """The text as the colony can store it: valid UTF-8 without NUL characters, and cut, with a note, where it is too long."""
    encoded = text.replace("\0", "").strip().encode("utf-8", "replace")
    if len(encoded) <= schema.MAX_BODY_BYTES:
        return encoded.decode()
    return encoded[: schema.MAX_BODY_BYTES - len(CUT)].decode("utf-8", "ignore") + CUT
