"""Which code this is."""

from __future__ import annotations

from pathlib import Path

from colony import __version__, config

HERE = Path(__file__).resolve().parents[1]


def version() -> str:
    """The version; on a host the release's name, which has a hash of the code besides."""
    return HERE.name if HERE.parent == config.HOST_RELEASES else __version__
