"""What systemd hands to an agent's services: one file for each credential, which nobody else can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

VARIABLE = "CREDENTIALS_DIRECTORY"  # as systemd.exec(5) says


def given(names: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Those of the names that there is a value for: systemd's before what the environment says."""
    found = {name: environ[name] for name in names if environ.get(name)}
    if folder := environ.get(VARIABLE):
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = (Path(folder) / name).read_text().strip()
    return found
