"""Where an agent thinks: a program started here sees the agent's home, the system, and nothing else."""

from __future__ import annotations

from pathlib import Path

from colony_agent.sandbox.bwrap import Bwrap
from colony_agent.sandbox.command import Command, Sandbox
from colony_agent.sandbox.gate import Gate
from colony_agent.sandbox.none import Unconfined
from colony_agent.settings import Home

__all__ = ["Command", "Sandbox", "for_home"]


def for_home(home: Home, binds: tuple[Path, ...] = (), honeytoken: str = "", *, keeps_history: bool = False) -> Sandbox:
    """The sandbox that the home's settings name; everything confined by it can read `binds`, and finds the `honeytoken`.

    With `keeps_history` it is for git alone, which bubblewrap confines wherever something does.
    """
    if home.agent.sandbox == "none":
        return Unconfined(home)
    if home.agent.sandbox == "podman" and not keeps_history:
        from colony_agent.sandbox.podman import Podman

        return Podman(home, Gate.of(home), binds, honeytoken)
    return Bwrap(home, None if keeps_history else Gate.of(home), binds, keeps_history, honeytoken)
