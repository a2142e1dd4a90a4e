"""How the server runs: read once, then frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.models.posting import LoopGuard


@dataclass(frozen=True)
class ServerConfig:
    database_url: str
    max_running_turns: int = 32
    guard: LoopGuard = field(default_factory=LoopGuard)
