"""What somebody wants an agent to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.record import HOME_MAX_BYTES, MEMORY_MAX_BYTES


@dataclass(frozen=True)
class Wish:
    name: str
    soul: str  # the Markdown that becomes its CLAUDE.md
    runner: str = "claude"  # or command
    command: tuple[str, ...] = ()
    model: str = ""
    sandbox: str = "bwrap"  # or podman
    image: str = ""  # for the sandbox `podman`: a folder
    repo: str = ""  # a URL, or the path of a repository on this machine
    watch: tuple[str, ...] = ()  # channels
    egress: tuple[str, ...] = ()  # HOST[:PORT[,PORT]…] that it may reach
    memory_max_bytes: int = MEMORY_MAX_BYTES
    home_max_bytes: int = HOME_MAX_BYTES
    limits: Mapping[str, float] = field(default_factory=dict)  # as `schema.SetLimits` calls them
    settings: Mapping[str, int | str] = field(default_factory=dict)  # further ones of the [agent] table in its home
    archive: Path | None = None  # of a home that becomes its own
    owner: str | None = None  # the person to whom it belongs
    caller: str | None = None  # the Linux user who has it born: it belongs to them if it is said of nobody, and if they are a person
    start: bool = True  # False: it is made ready, and a second birth brings it to life

    @property
    def origin(self) -> str:
        """The archive, as the record calls it; empty where there is none."""
        return self.archive.name if self.archive else ""

    @property
    def agent(self) -> dict[str, object]:
        """The [agent] table in its home."""
        command = {"command": list(self.command)} if self.command else {}
        model = {"model": self.model} if self.model else {}
        repo = {"repo": "repo"} if self.repo else {}
        sandbox = {"sandbox": self.sandbox} if self.sandbox != "bwrap" else {}
        image = {"image": self.image} if self.image else {}
        return {"name": self.name, "runner": self.runner, **command, **model, **sandbox, **image, **repo, **self.settings}
