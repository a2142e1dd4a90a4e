"""Tries a program, as an agent would."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from provisioning.apply import run

SECONDS = 20.0


def complaint(argv: Sequence[str], user: str, is_root: bool) -> str:
    """What it says when it fails, in one line; empty when it does not. It runs as the user, or as who asks where that is not root."""
    try:
        done = run(argv, user=user, seconds=SECONDS) if is_root else subprocess.run(argv, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it is not done after {SECONDS:g} s"
    except OSError as error:
        return str(error)
    words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return (words[-1] if words else f"it ends with code {done.returncode}") if done.returncode else ""
