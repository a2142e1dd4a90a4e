"""What an agent's settings may be, and are where nobody says, for whoever writes them down and whoever reads them."""

from __future__ import annotations

from typing import Literal

SandboxKind = Literal["bwrap", "podman", "none"]
RunnerKind = Literal["claude", "command"]
IMAGE = r"/[^,:\\]+"  # the folder of a container's image: what an overlay can be made of
BOUNDS = {  # from, to
    "turn_timeout_seconds": (1, 86_400),
    "lease_seconds": (5, 3600),
    "pulse_minutes": (0, 10_080),
    "memory_max_bytes": (256, 49_152),
    "dreams_kept": (0, 10_000),
}

DEFAULTS = {"turn_timeout_seconds": 600, "pulse_minutes": 30}
