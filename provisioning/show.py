"""What people and scripts are told of a plan."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

from provisioning.steps import Step

CLEAR_LINE = "\r\x1b[K"


@dataclass
class Show:
    """Says each step as it is done, on stderr; or all of them at the end, as one document."""

    is_json: bool
    is_dry: bool
    _done: list[dict[str, object]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """While the step is being done. A person sees what is at work; a log has a line for what is done."""
        is_watched = sys.stderr.isatty() and not self.is_json
        if is_watched:
            click.echo(f"  {step.says} …", nl=False, err=True)
        began = time.monotonic()
        try:
            yield
        except BaseException:
            if is_watched:
                click.echo(err=True)
            raise
        seconds = time.monotonic() - began
        self._done.append({"name": step.name, "says": step.says, "seconds": round(seconds, 3)})
        if not self.is_json:
            click.echo(f"{CLEAR_LINE if is_watched else ''}  {step.says} ({seconds * 1000:.0f} ms)", err=True)

    def end(self, steps: Sequence[Step], well: str, done: str | None = None) -> None:
        """`well` is what is true where nothing was to be done, `done` where something was."""
        if self.is_json:
            told = [{"name": step.name, "says": step.says} for step in steps] if self.is_dry else self._done
            click.echo(json.dumps({"is_dry_run": self.is_dry, "steps": told, "seconds": round(time.monotonic() - self._began, 3)}))
        elif not steps:
            click.echo(f"nothing to do: {well}")
        elif self.is_dry:
            for step in steps:
                click.echo(f"{step.name}: {step.says}")
            click.echo(f"{len(steps)} steps; nothing was changed", err=True)
        else:
            click.echo(done or well)
