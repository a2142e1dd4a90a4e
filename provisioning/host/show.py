"""What people and scripts are told of a plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from provisioning.steps import Step


@dataclass
class Show:
    """Says each step as it is done, on stderr; or all of them at the end, as one document."""

    is_json: bool
    is_dry: bool
    _done: list[dict[str, object]] = field(default_factory=list)

    def tell(self, step: Step, seconds: float) -> None:
        self._done.append({"name": step.name, "says": step.says, "seconds": round(seconds, 3)})
        if not self.is_json:
            click.echo(f"  {step.says} ({seconds * 1000:.0f} ms)", err=True)

    def end(self, steps: Sequence[Step], well: str) -> None:
        """`well` is what is true in the end."""
        if self.is_json:
            told = [{"name": step.name, "says": step.says} for step in steps] if self.is_dry else self._done
            click.echo(json.dumps({"is_dry_run": self.is_dry, "steps": told}))
        elif not steps:
            click.echo(f"nothing to do: {well}")
        elif self.is_dry:
            for step in steps:
                click.echo(f"{step.name}: {step.says}")
            click.echo(f"{len(steps)} steps; nothing was changed", err=True)
        else:
            click.echo(well)
