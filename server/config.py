"""How the server runs: read once, then frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from server import keyring
from server.models.agent import Patience
from server.models.claim import Terms
from server.models.posting import LoopGuard


@dataclass(frozen=True)
class ServerConfig:
    database_url: str
    terms: Terms = field(default_factory=Terms)
    max_streams: int = 150  # of events; each holds a thread
    max_waits: int = 150  # of one user; each holds a thread
    guard: LoopGuard = field(default_factory=LoopGuard)
    patience: Patience = field(default_factory=Patience)

    @property
    def secret_keys(self) -> Path:
        """Where the keys are that secrets lie sealed with: never in the database, nor in its backups."""
        return keyring.place(self.database_url)
