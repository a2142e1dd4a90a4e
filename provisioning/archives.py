"""The archives of agents' homes that lie on this host, by their names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from provisioning import places

RECORD = "record.toml"  # beside the home in an archive: the host's record of the agent
_STAMP = r"\d{8}T\d{6}Z"


def name_of(agent: str, now: datetime | None = None) -> str:
    """How an archive of the agent that is made now is called; such names sort by time."""
    return f"{agent}-{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"


def staged(agent: str) -> Path:
    """Where a backup of the agent's home is written before it has its name; it stays there from one that was killed."""
    return places.BACKUPS / f".{agent}.new"


def living(agent: str, folder: Path = places.BACKUPS) -> list[Path]:
    """The backups of the agent's home, the oldest first. Raises `PermissionError` for who is not root."""
    if not folder.exists():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(rf"{agent}-{_STAMP}\.tar\.gz", path.name))
