"""What a sandbox hands to whoever starts the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from colony_agent.sandbox.gate import Gate
from colony_agent.settings import Home


def _no_reason(stderr: str) -> str | None:
    return None


def _no_namespace() -> int | None:
    return None


@dataclass(frozen=True)
class Command:
    """A program, ready to be started. Start it once: it may own descriptors."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    descriptors: tuple[int, ...] = ()  # inherited by the program; whoever starts it closes its own copies
    namespace_pid: Callable[[], int | None] = _no_namespace  # call it once, after the start: whose end is the end of all inside
    explain: Callable[[str], str | None] = _no_reason  # what the last of stderr tells about a sandbox that did not start


class Sandbox(Protocol):
    @property
    def gate(self) -> Gate | None:
        """The only way out of what is confined, also to the model; None: it has none."""

    def confine(self, argv: Sequence[str], env: Mapping[str, str], binds: Sequence[Path] = ()) -> Command:
        """`argv`, in the home, with `env` beside the basics; `binds` can be read at their own paths. Raises `RunnerFailed`."""


def environment(home: Home, gate: Gate | None, more: Mapping[str, str]) -> dict[str, str]:
    """All that a confined program finds in its environment: nothing is inherited."""
    return {
        "HOME": str(home.path.absolute()),
        "USER": home.agent.name,
        "LOGNAME": home.agent.name,
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **(gate.environment() if gate else {}),
        **more,
    }
