"""No sandbox at all: the program may do whatever the agent's user may."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colony_agent.sandbox.command import Command, environment
from colony_agent.settings import Home

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unconfined:
    home: Home
    gate: None = None  # it reaches what the host does

    def confine(self, argv: Sequence[str], env: Mapping[str, str], binds: Sequence[Path] = ()) -> Command:
        _log.warning("runs without a sandbox agent=%s", self.home.agent.name)
        return Command(tuple(argv), environment(self.home, None, env), self.home.path)
