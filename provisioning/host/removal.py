"""How a machine stops being a host: what there is of a colony on it, and the steps that remove it."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioning import found, places
from provisioning.facts import COMMENT
from provisioning.found import Found
from provisioning.host import files
from provisioning.steps import Act, Disable, Reload, Remove, Run, Step, Stop
from provisioning.watch import revive, sizes

DATA = (places.DATA, places.SETTINGS, places.ARCHIVE, places.HOMES)  # what only a purge removes
MEMORIES = (revive.MEMORY, sizes.MEMORY, places.GATE_SOCKET.parent)  # of this boot
STAMPS = Path("/var/lib/systemd/timers")  # when a timer last ran


@dataclass(frozen=True)
class Remains:
    """What there is of a colony here."""

    entries: Found  # host units, stamps, links, folders
    agent_units: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()  # Linux users
    has_server_account: bool = False
    has_gate_account: bool = False
    has_group: bool = False


def read() -> Remains:
    users = pwd.getpwall()
    return Remains(
        entries=found.look([*files.paths(), *_stamps(), *MEMORIES, places.CODE]),
        agent_units=files.agent_units(),
        agents=tuple(sorted(user.pw_name for user in users if _is_agent(user))),
        has_server_account=any(user.pw_name == places.SERVER_USER and Path(user.pw_dir) == places.DATA for user in users),
        has_gate_account=any(user.pw_name == places.GATE_USER and user.pw_uid < 1000 for user in users),
        has_group=any(group.gr_name == places.AGENTS_GROUP for group in grp.getgrall()),
    )


def plan(remains: Remains, *, purge: bool) -> list[Step]:
    """What is left to remove; without `purge` data, settings, users and homes stay, for a colony to be installed on them again."""
    steps = [_agents(remains), _units(remains), _commands(remains), _profile(remains)]
    steps += [_homes(remains), _data(remains), _accounts(remains)] if purge else []
    steps += [_code(remains)]  # last, as this is what runs
    return [step for step in steps if step]


def _agents(remains: Remains) -> Step | None:
    """Without the code they can't work; `colony-agent birth NAME` makes them again, with their homes."""
    gone = [Remove(places.UNITS / name) for name in remains.agent_units]
    return _ended("agents", "the end of the agents' services", remains.agent_units, gone)


def _units(remains: Remains) -> Step | None:
    names = tuple(name for name in files.unit_names() if places.UNITS / name in remains.entries)
    gone = _removed(remains, *(places.UNITS / name for name in names), *_stamps(), *MEMORIES)
    return _ended("units", "the end of the server and its timers", names, gone)


def _commands(remains: Remains) -> Step | None:
    entries = [(link, remains.entries.get(link.path)) for link in files.LINKS]
    ours = [Remove(link.path) for link, entry in entries if entry and entry.text == str(link.target)]
    return _step("commands", f"the end of its commands in {places.COMMANDS}", ours)


def _profile(remains: Remains) -> Step | None:
    if files.PROFILE not in remains.entries:
        return None
    return Step("profile", "the end of bubblewrap's profile", (Run(("apparmor_parser", "-R", str(files.PROFILE))), Remove(files.PROFILE)))


def _homes(remains: Remains) -> Step | None:
    users: list[Act] = [Run(("userdel", name)) for name in remains.agents]
    return _step("homes", "the end of the agents' users and homes", [*users, *_removed(remains, places.HOMES)])


def _data(remains: Remains) -> Step | None:
    gone = _removed(remains, places.DATA, places.SETTINGS, places.ARCHIVE)
    return _step("data", f"the end of {places.DATA}, {places.SETTINGS} and {places.ARCHIVE}", gone)


def _accounts(remains: Remains) -> Step | None:
    acts = [Run(("userdel", places.SERVER_USER))] if remains.has_server_account else []  # its own group goes with it
    acts += [Run(("userdel", places.GATE_USER))] if remains.has_gate_account else []
    acts += [Run(("groupdel", places.AGENTS_GROUP))] if remains.has_group else []
    return _step("accounts", f"the end of the users {places.SERVER_USER} and {places.GATE_USER}, and the group {places.AGENTS_GROUP}", acts)


def _code(remains: Remains) -> Step | None:
    if places.CODE not in remains.entries:
        return None
    return Step("code", f"the end of {places.CODE}", (Remove(places.CODE), Remove(places.LOCKS)))


def _removed(remains: Remains, *paths: Path) -> list[Act]:
    return [Remove(path) for path in paths if path in remains.entries]


def _ended(name: str, says: str, units: tuple[str, ...], gone: Sequence[Act]) -> Step | None:
    acts = [Stop(units), Disable(units), *gone, Reload()] if units else gone
    return _step(name, says, acts)


def _step(name: str, says: str, acts: Sequence[Act]) -> Step | None:
    return Step(name, says, tuple(acts)) if acts else None


def _stamps() -> list[Path]:
    return [STAMPS / f"stamp-{name}" for name in files.unit_names() if name.endswith(".timer")]


def _is_agent(user: pwd.struct_passwd) -> bool:
    return user.pw_gecos == COMMENT and Path(user.pw_dir).parent == places.HOMES
