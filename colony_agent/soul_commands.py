"""`colony-agent soul`: what a soul says, which one an agent has, and how it gets another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from colony import errors, show
from colony.command_line import Group

_file = click.argument("file", type=click.Path(path_type=Path))


@click.group(cls=Group)
def soul() -> None:
    """The files that say who agents are and how they live."""


@soul.command()
@_file
@click.option("--json", "is_json", is_flag=True, help="Write JSON.")
def check(file: Path, is_json: bool) -> None:
    """Say whether FILE is sound, and what it asks for. Exits 2 if it isn't."""
    from provisioning import soul as souls
    from provisioning import soul_words

    found = souls.load(file)
    if is_json:
        print(json.dumps({"file": str(file), **soul_words.keys(found)}))
    else:
        keys = soul_words.flat(found).items()
        said = "; ".join(f"{key} {soul_words.worded(key, value)}" for key, value in keys if value not in (None, []))
        print(show.line(f"{file} is sound{f': {said}' if said else ''}"))


@soul.command("show")
@click.argument("name")
def show_lived(name: str) -> None:
    """Write the soul that NAME lives by now: a file that `soul set` would change nothing with."""
    from provisioning import facts, home, lived, record, soul_words
    from provisioning import soul as souls
    from provisioning.systemd import Systemd

    facts.require_root()
    with Systemd() as systemd:
        found = lived.read(facts.read(record.checked_name(name), systemd)).soul
    if not found.text or len(found.text.encode()) > souls.MAX_BYTES:
        trouble = "is larger than a soul may be" if found.text else "is missing, empty or no file"
        raise errors.Invalid(f"{home.SOUL_FILE} of {name} {trouble}; colony-agent soul set {name} FILE replaces it")
    written = soul_words.written(found)
    print(show.clean(written) if sys.stdout.isatty() else written, end="")


@soul.command("set")
@click.argument("name")
@_file
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")
def set_lived(name: str, file: Path, dry_run: bool, is_json: bool) -> None:
    """Bring the living agent NAME to the soul in FILE; what that leaves open stays as it is. Safe to repeat.

    A new text counts from the next turn on. For new settings, memory or another runner its worker starts anew, and the former one comes
    back if that fails.
    """
    from provisioning import facts, soul_change
    from provisioning import soul as souls
    from provisioning.show import Show

    facts.require_root()
    shown = Show(is_json, dry_run)
    change = soul_change.change(name, souls.load(file), shown.step, dry_run=dry_run)
    if dry_run and change.diff and not is_json:
        click.echo(change.diff)
    shown.end(change.steps, f"{name} has this soul already", f"{name} lives by it now")
