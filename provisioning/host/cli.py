"""`colony-server install` and `uninstall`: look, think, and have it done."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from colony import errors, schema
from provisioning import agents, places, record, units
from provisioning.apply import apply
from provisioning.facts import account, require_root
from provisioning.host import facts, files, plan, removal
from provisioning.host.alone import alone
from provisioning.host.plan import Ape, Plan, Wish
from provisioning.host.removal import Remains
from provisioning.host.settings import ServerSettings
from provisioning.show import Show
from provisioning.systemd import Systemd, require_running

PURGE = "purge"  # the word that must be typed
HERE = facts.THIS_RELEASE  # or a checkout
_dry_run = click.option("--dry-run", is_flag=True, help="Show the steps, and change nothing.")
_json = click.option("--json", "is_json", is_flag=True, help="Print a JSON document.")


@click.command()
@click.option("--ape", metavar="NAME", help="The first person; default: who called sudo. A Linux user of that name is that person.")
@click.option("--port", type=click.IntRange(0, 65535), help="The server's on 127.0.0.1, if it is not to be 8700; 0: none.")
@click.option("--release", metavar="NAME", help="Go to another release that is still here, or back to it; previous: the one before.")
@_dry_run
@_json
def install(ape: str | None, port: int | None, release: str | None, dry_run: bool, is_json: bool) -> None:
    """Make this machine a host of agents, bring it up to this code, or complete what was interrupted. Harmless to repeat."""
    if release is None and HERE.parent != places.RELEASES:
        _instead(HERE / "bin/install", *sys.argv[2:])
    require_root()
    if release is not None and (there := _there(release)) != HERE:
        _instead(there / ".venv/bin/colony-server", "install", *_words(ape, port, dry_run, is_json))
    wish, show = Wish(port, _ape(ape)), Show(is_json, dry_run)
    with alone(), Systemd() as systemd:
        made = plan.install(facts.read(systemd, ServerSettings() if port is None else ServerSettings(port=port)), wish)
        units.check(agents.unit_files(made.steps))
        if not dry_run:
            _carry_out(made, show)
    show.end(made.steps, f"this machine is a host of agents, on release {HERE.name}; {_next()}")


@click.command()
@click.option("--purge", is_flag=True, help="Remove data, settings, agents' homes and archives, and all users, too.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_dry_run
@_json
def uninstall(purge: bool, yes: bool, dry_run: bool, is_json: bool) -> None:
    """Take the colony off this machine. Its data, settings, users and homes stay, unless --purge."""
    if HERE.parent != places.RELEASES and (places.CURRENT / ".venv/bin/colony-server").exists():
        _instead(places.CURRENT / ".venv/bin/colony-server", *sys.argv[1:])
    require_root()
    show = Show(is_json, dry_run)
    require_running()
    with alone():
        remains = removal.read()
        steps = removal.plan(remains, purge=purge)
        if steps and purge and not (yes or dry_run):
            _ask()
        if not dry_run:
            apply(steps, show.step)
    show.end(steps, "no colony is installed here" + ("" if purge else _data_left(remains)))


def _next() -> str:
    """What to do now."""
    if not (here := record.names()):
        return "give birth to one: sudo colony-agent birth NAME --soul FILE"
    if files.agent_releases() != {HERE}:
        return "sudo colony-agent upgrade --all brings its agents to it"
    return f"here live {', '.join(here)}"


def _data_left(remains: Remains) -> str:
    """What an uninstall leaves, and how that goes."""
    left = [str(path) for path in removal.DATA if path in remains.entries]
    return f"; {', '.join(left)} stay until: sudo make uninstall ARGS=--purge, in a checkout" if left else ""


def _carry_out(made: Plan, show: Show) -> None:
    """Where the new code does not serve, go back to the former and say so."""
    apply(made.before, show.step)
    try:
        apply(made.change, show.step)
    except errors.ColonyError as error:
        if not made.back:
            raise
        apply(made.back, show.step)
        raise type(error)(f"{error.detail}; so the server runs {made.back[0].says}") from error
    apply(made.after, show.step)


def _instead(program: Path, *words: str) -> None:
    """This is not the code that does it."""
    os.execv(program, [str(program), *words])


def _there(name: str) -> Path:
    """A whole release that is on this machine. Raises `NotFound`."""
    found = places.PREVIOUS.resolve() if name == places.PREVIOUS.name else places.RELEASES / name
    whole = sorted(path.parent for path in places.RELEASES.glob("*/.complete"))
    if found not in whole:
        here = ", ".join(path.name + " (current)" * (path == places.CURRENT.resolve()) for path in whole)
        raise errors.NotFound(f"there is no release {name} on this machine" + (f"; there are {here}" if here else ""))
    return found


def _words(ape: str | None, port: int | None, dry_run: bool, is_json: bool) -> list[str]:
    """The options of an install, without the release: that one's own code may not know of it."""
    named = {"--ape": ape, "--port": port}
    said = [word for option, value in named.items() if value is not None for word in (option, str(value))]
    return [*said, *["--dry-run"] * dry_run, *["--json"] * is_json]


def _ask() -> None:
    click.echo(f"This removes {places.DATA}, {places.SETTINGS}, {places.HOMES}, {places.ARCHIVE}, and every agent. Nothing brings it back.")
    try:
        said = click.prompt(f"Type {PURGE} to go on", default="", show_default=False)
    except click.Abort:
        said = ""
    if said != PURGE:
        raise errors.Invalid("nothing was removed")


def _ape(named: str | None) -> Ape | None:
    """Who is to be the first person: the one who is named, else the one who called sudo. Raises `Invalid`."""
    sudo = os.environ.get("SUDO_USER", "")
    linux_user = named or (sudo if sudo != "root" else "")
    if not linux_user:
        return None
    username = linux_user if named else re.sub(r"[^a-z0-9_-]", "-", linux_user.lower())[:31]
    try:
        schema.CreateUser(username=username, kind="ape")
    except ValueError:
        raise errors.Invalid(f"{username!r} can't be a person's name in the colony; give one of a-z, 0-9, - and _ with --ape") from None
    return Ape(username, linux_user if account(linux_user) else None)
