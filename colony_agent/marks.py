"""What a line of an agent's notes may bear: a pin, which dreams heed, and the mark of what is from outside, which the machine sets."""

from __future__ import annotations

PIN = "[pinned]"
OUTSIDE = "[outside]"


def is_pinned(line: bytes) -> bool:
    """Whether no dream may drop the line. What people outside had a part in pins nothing: they could stay in a memory for ever."""
    return PIN.encode() in line and OUTSIDE.encode() not in line
