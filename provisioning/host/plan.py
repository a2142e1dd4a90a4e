"""How a machine becomes a host, thought out: from what there is to the steps that are missing. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colony import errors, operations, schema
from provisioning import found, places
from provisioning.host import files, settings
from provisioning.host.facts import Host
from provisioning.steps import Act, Ask, Disable, Enable, Folder, Link, PutBack, Reload, Remove, Run, Start, Step, Stop, Write

MIN_FREE_BYTES = 200 * 10**6
UPGRADES = places.DATA / "backups/upgrades"  # copies made before the schema changed
KEPT_UPGRADES = 3
GATE_COMMENT = "Colony gate"


@dataclass(frozen=True)
class Ape:
    """The first person of the colony."""

    username: str
    linux_user: str | None = None


@dataclass(frozen=True)
class Wish:
    port: int | None = None
    ape: Ape | None = None


@dataclass(frozen=True)
class Plan:
    """In three parts, so that what fails in the second can be taken back."""

    before: tuple[Step, ...] = ()
    change: tuple[Step, ...] = ()  # of the code that serves
    after: tuple[Step, ...] = ()
    back: tuple[Step, ...] = ()  # to the former release; none where there was none

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.before + self.change + self.after


def install(host: Host, wish: Wish) -> Plan:
    """What is missing; nothing on a host whose server runs this release. Raises `ColonyError` where it can't be done."""
    require_possible(host, wish)
    wanted = files.render(host.release, host.settings, host.credentials)
    return Plan(
        before=_some(_accounts(host), _folders(host), _settings(host), _profile(host)),
        change=_some(_stop(host, wanted), _migrate(host), _units(host, wanted), _code(host), _start(host, wanted)),
        after=_some(_commands(host), _gate(host), _ape(host, wish), _tidy(host)),
        back=_back(host, wanted),
    )


def require_possible(host: Host, wish: Wish) -> None:
    """Raises `Conflict`, `Unavailable` or `Invalid` with what is in the way."""
    account = host.server_account
    if account and (account.home != places.DATA or not account.is_system):
        raise errors.Conflict(
            f"there is a Linux user {places.SERVER_USER} already, and it is not the server's (its home is {account.home}); rename that user"
        )
    if host.gate_account and (host.gate_account.home != Path("/nonexistent") or not host.gate_account.is_system):
        raise errors.Conflict(f"there is a Linux user {places.GATE_USER} already, and it is not the gate's; rename that user")
    if host.free_bytes < MIN_FREE_BYTES:
        free, needed = host.free_bytes // 10**6, MIN_FREE_BYTES // 10**6
        raise errors.StorageFull(f"the disk of {places.DATA} has {free} MB free; free at least {needed} MB and repeat it")
    if not host.is_port_free:
        raise errors.Unavailable(f"port {host.settings.port} is taken; {_other_port(host)}")
    if wish.port is not None and places.SERVER_SETTINGS in host.entries and wish.port != host.settings.port:
        raise errors.Conflict(f"{places.SERVER_SETTINGS} says port {host.settings.port}; {_other_port(host)}")
    for link in files.LINKS:
        entry = host.entries.get(link.path)
        if entry and not (entry.kind == "link" and Path(entry.text).is_relative_to(places.CODE)):
            raise errors.Conflict(f"{link.path} is there already and does not lead to {places.CODE}; move it away")


def _other_port(host: Host) -> str:
    if places.SERVER_SETTINGS in host.entries:
        return f"name another in {places.SERVER_SETTINGS} and run: systemctl restart {files.SERVER}"
    return "name another with --port"


# --- before: what no running server depends on


def _accounts(host: Host) -> Step | None:
    acts: list[Act] = []
    if places.AGENTS_GROUP not in host.groups:
        acts.append(Run(("groupadd", "--system", places.AGENTS_GROUP)))
    if host.server_account is None:
        group = ("--gid", places.SERVER_USER) if places.SERVER_USER in host.groups else ("--user-group",)
        home = ("--no-create-home", "--home-dir", str(places.DATA), "--shell", "/usr/sbin/nologin", "--comment", "Colony server")
        acts.append(Run(("useradd", "--system", *group, *home, places.SERVER_USER)))
    if host.gate_account is None:
        home = ("--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "--comment", GATE_COMMENT)
        acts.append(Run(("useradd", "--system", "--user-group", *home, places.GATE_USER)))
    return _step("accounts", f"the users {places.SERVER_USER} and {places.GATE_USER}, and the group {places.AGENTS_GROUP}", acts)


def _folders(host: Host) -> Step | None:
    acts = _missing(host, files.FOLDERS)
    return _step("folders", f"{places.DATA}, {places.HOMES}, {places.SETTINGS}", acts)


def _settings(host: Host) -> Step | None:
    wanted = (
        Write(places.SERVER_SETTINGS, settings.first_text(host.settings.port), 0o640, "root", places.SERVER_USER),
        Write(places.GATE_SETTINGS, settings.first_gate_text(), 0o640),
    )
    missing = [act for act in wanted if act.path not in host.entries]
    return _step("settings", " and ".join(str(act.path) for act in missing), missing)


def _profile(host: Host) -> Step | None:
    wanted = Write(files.PROFILE, files.PROFILE_TEXT)
    if not host.needs_profile or found.is_so(wanted, host.entries):
        return None
    return Step("profile", "that AppArmor lets bubblewrap make sandboxes", (wanted, Run(("apparmor_parser", "-r", str(files.PROFILE)))))


# --- change: interrupted anywhere, the server is down or what it was, and a rerun goes on


def _stop(host: Host, wanted: dict[str, str]) -> Step | None:
    """First of all: else nobody would know afterwards whether what runs is what the files say."""
    if not host.is_server_active or not (_changed(host, wanted) or host.current != host.release or host.is_migration_due):
        return None
    return Step("stop", "a pause of the server", (Stop((files.SERVER,)),))


def _migrate(host: Host) -> Step | None:
    if not host.is_migration_due:
        return None
    server = (f"{host.release}/.venv/bin/colony-server", "--config", str(places.SERVER_SETTINGS))
    copy = Run((*server, "backup", str(UPGRADES), "--keep", str(KEPT_UPGRADES)), user=places.SERVER_USER)
    migrate = Run((*server, "migrate"), user=places.SERVER_USER)
    return Step("migrate", "the database's new schema", (copy, migrate) if host.settings.is_sqlite else (migrate,))


def _units(host: Host, wanted: dict[str, str]) -> Step | None:
    unwanted = [name for name in files.unit_names() if name not in wanted and places.UNITS / name in host.entries]
    acts: list[Act] = [Stop(tuple(unwanted)), Disable(tuple(unwanted))] if unwanted else []
    acts += [*(Remove(places.UNITS / name) for name in unwanted), *_changed(host, wanted)]
    return _step("units", "its units", [*acts, Reload()] if acts else [])


def _code(host: Host) -> Step | None:
    """The way back is kept first: another install finds it then, wherever this one was interrupted."""
    links = [Link(places.CURRENT, host.release)]
    if host.current and host.current != host.release:
        links.insert(0, Link(places.PREVIOUS, host.current))
    return _step("code", f"release {host.release.name}", _missing(host, links))


def _start(host: Host, wanted: dict[str, str]) -> Step | None:
    lasting = [name for name in wanted if name in files.LASTING or name.endswith(".timer")]
    will_stop = _stop(host, wanted) is not None
    changed = {act.path.name for act in _changed(host, wanted)}
    enable = tuple(name for name in lasting if name not in host.enabled)
    start = tuple(name for name in lasting if name not in host.active or (name == files.SERVER and will_stop))
    again = tuple(name for name in lasting if name in changed and name not in start)
    acts: list[Act] = [Enable(enable)] if enable else []
    acts += [Start(start)] if start else []
    acts += [Start(again, restart=True)] if again else []
    return _step("start", "a server that answers", acts)


# --- after


def _commands(host: Host) -> Step | None:
    return _step("commands", f"colony, colony-agent and colony-server in {places.COMMANDS}", _missing(host, files.LINKS))


def _gate(host: Host) -> Step | None:
    if places.GATE_USER in (host.members or ()):
        return None
    request = schema.CreateUser(username=places.GATE_USER, kind="service", linux_user=places.GATE_USER)
    return Step("gate", f"{places.GATE_USER} in the colony", (Ask(operations.CREATE_USER, request, settles=errors.Conflict),))


def _ape(host: Host, wish: Wish) -> Step | None:
    if wish.ape is None or wish.ape.username in (host.members or ()):
        return None
    request = schema.CreateUser(username=wish.ape.username, kind="ape", linux_user=wish.ape.linux_user)
    return Step("ape", f"{wish.ape.username} in the colony", (Ask(operations.CREATE_USER, request, settles=errors.Conflict),))


def _tidy(host: Host) -> Step | None:
    kept = host.kept_releases | {host.release, _previous(host)}
    gone = sorted(host.releases - kept)
    claudes = sorted(path for path, needed_by in host.claudes.items() if not needed_by & kept)
    return _step("tidy", "the end of releases that nobody runs or would go back to", [Remove(path) for path in (*gone, *claudes)])


def _previous(host: Host) -> Path | None:
    """The release before this one, once this one is current."""
    return host.previous if host.current in (None, host.release) else host.current


# --- back


def _back(host: Host, wanted: dict[str, str]) -> tuple[Step, ...]:
    """To what there was before `change`, whatever of it was done."""
    if host.current is None or not host.is_server_active or host.current == host.release:
        return ()
    has_gate = places.UNITS / files.GATE in host.entries  # releases before had none
    acts: list[Act] = [Stop((files.SERVER,) if has_gate else files.LASTING), *([] if has_gate else [Disable((files.GATE,))])]
    for act in _changed(host, wanted):
        former = host.entries.get(act.path)
        acts.append(Write(act.path, former.text) if former else Remove(act.path))
    acts += [Reload(), Link(places.CURRENT, host.current)]
    acts += [Link(places.PREVIOUS, host.previous) if host.previous else Remove(places.PREVIOUS)]
    if host.is_migration_due and (file := host.settings.database_file):
        acts.append(PutBack(UPGRADES, file, places.SERVER_USER))
    acts += [Start((files.SERVER,)), *([Start((files.GATE,), restart=True)] if has_gate else [])]
    return (Step("back", f"release {host.current.name} again", tuple(acts)),)


def _changed(host: Host, wanted: dict[str, str]) -> list[Write]:
    return [act for name, text in wanted.items() if not found.is_so(act := Write(places.UNITS / name, text), host.entries)]


def _missing(host: Host, acts: Sequence[Folder | Link]) -> list[Folder | Link]:
    return [act for act in acts if not found.is_so(act, host.entries)]


def _some(*steps: Step | None) -> tuple[Step, ...]:
    return tuple(step for step in steps if step)


def _step(name: str, says: str, acts: Sequence[Act]) -> Step | None:
    return Step(name, says, tuple(acts)) if acts else None
