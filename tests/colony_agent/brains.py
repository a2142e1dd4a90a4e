"""Brains of the agents in tests: small shell scripts."""

from __future__ import annotations

ECHO = "cat > said.json; echo run >> runs; echo answered"  # a brain that notes what it was told and how often it ran
WAITS_FOR_GO = "echo run >> runs; while [ ! -e go ]; do sleep 0.02; done; echo answered"
HANGS_FIRST = "cat > said.json; echo run >> runs; [ $(wc -l < runs) -gt 1 ] || sleep {}; echo answered"


def sleeps_first(mark: str) -> str:
    """A brain that hangs when it runs first, and answers when it runs again."""
    return f"echo run >> runs; [ $(wc -l < runs) -gt 1 ] || sleep {mark}; echo answered"
