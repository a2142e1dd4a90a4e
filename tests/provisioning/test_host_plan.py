"""From what a machine has to the steps that make it a host: no machine is needed to know them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colony import errors, operations
from provisioning import found, places
from provisioning.found import Entry
from provisioning.host import cli, files, plan, settings
from provisioning.host.facts import Account, Host
from provisioning.host.plan import Ape, Plan, Wish
from provisioning.host.settings import ServerSettings
from provisioning.steps import Act, Ask, Disable, Enable, Folder, Link, PutBack, Reload, Remove, Run, Start, Step, Stop, Write

INSTALL = Path(__file__).parents[2] / "bin/install"
OLD, NEW = places.RELEASES / "0.1.0-aaa", places.RELEASES / "0.2.0-bbb"
WISH = Wish(ape=Ape("ann", "ann"))
BARE = Host(NEW, ServerSettings())
POSTGRES = ServerSettings(database="postgresql://colony:x@db.example.org/colony")
LASTING = frozenset({*files.LASTING, "colony-backup.timer", "colony-home-backup.timer", "colony-prune.timer", "colony-watch.timer"})


def entry(act: Folder | Write | Link) -> Entry:
    match act:
        case Link():
            return Entry("link", 0o777, "root", "root", str(act.target))
        case Folder():
            return Entry("folder", act.mode, act.user, act.group)
        case Write():
            return Entry("file", act.mode, act.user, act.group, act.text)


def after(host: Host, step: Step) -> Host:
    """The same machine once the step is done."""
    for act in step.acts:
        host = _after(host, act)
    return host


def _after(host: Host, act: Act) -> Host:
    match act:
        case Folder() | Write() | Link():
            return replace(host, entries={**host.entries, act.path: entry(act)})
        case Remove():
            kept = {path: each for path, each in host.entries.items() if path != act.path}
            return replace(host, entries=kept, releases=host.releases - {act.path})
        case Run(argv=("groupadd", *_)):
            return replace(host, groups=host.groups | {places.AGENTS_GROUP})
        case Run(argv=("useradd", *_, places.GATE_USER)):
            return replace(host, gate_account=Account(Path("/nonexistent"), True))
        case Run(argv=("useradd", *_)):
            return replace(host, server_account=Account(places.DATA, True), groups=host.groups | {places.SERVER_USER})
        case Run(argv=(_, _, _, "migrate")):
            return replace(host, is_migration_due=False)
        case Enable():
            return replace(host, enabled=host.enabled | {*act.units})
        case Disable():
            return replace(host, enabled=host.enabled - {*act.units})
        case Start():
            return replace(host, active=host.active | {*act.units}, members=host.members or frozenset())
        case Stop():
            return replace(host, active=host.active - {*act.units}, members=host.members)
        case Ask(operation=operations.CREATE_USER):
            return replace(host, members=(host.members or frozenset()) | {act.request.username})  # type: ignore[attr-defined]
        case Run() | Reload() | PutBack():
            return host
    raise AssertionError(act)


def all_after(host: Host, steps: Sequence[Step]) -> Host:
    for step in steps:
        host = after(host, step)
    return host


def installed(release: Path = NEW, known: ServerSettings | None = None, **changes: Any) -> Host:
    """A host of which nothing is missing, with that release."""
    bare = replace(BARE, release=release, settings=known or BARE.settings, releases=frozenset({release}))
    return replace(all_after(bare, plan.install(bare, WISH).steps), **changes)


def without(host: Host, *gone: Path) -> Host:
    return replace(host, entries={path: each for path, each in host.entries.items() if path not in gone})


def upgrade(**changes: Any) -> Host:
    """A host that runs the old release, seen by the new one."""
    return replace(installed(OLD), release=NEW, releases=frozenset({OLD, NEW}), **changes)


def names(made: Plan) -> list[str]:
    return [step.name for step in made.steps]


def acts(made: Plan, name: str) -> tuple[Act, ...]:
    return next(step.acts for step in made.steps if step.name == name)


def test_on_a_bare_machine_everything_is_made_in_this_order() -> None:
    assert names(plan.install(BARE, WISH)) == ["accounts", "folders", "settings", "units", "code", "start", "commands", "gate", "ape"]


@pytest.mark.parametrize("known", [ServerSettings(), POSTGRES], ids=["sqlite", "postgresql"])
def test_for_a_host_that_runs_this_release_nothing_is_planned(known: ServerSettings) -> None:
    assert plan.install(installed(known=known), WISH).steps == ()


def test_an_interruption_after_any_step_leaves_the_rest_to_do() -> None:
    for host in (BARE, upgrade(), upgrade(is_migration_due=True)):
        made = plan.install(host, WISH)
        for number, step in enumerate(made.steps, 1):
            host = after(host, step)
            assert names(plan.install(host, WISH)) == names(made)[number:], step.name


SERVICE = places.UNITS / files.SERVER


@pytest.mark.parametrize(
    ("host", "steps"),
    [
        (installed(groups=frozenset({places.SERVER_USER})), ["accounts"]),
        (installed(server_account=None), ["accounts"]),
        (installed(gate_account=None), ["accounts"]),
        *((without(installed(), folder.path), ["folders"]) for folder in files.FOLDERS),
        (without(installed(), places.SERVER_SETTINGS), ["settings"]),
        (without(installed(), places.GATE_SETTINGS), ["settings"]),
        (without(installed(), SERVICE), ["stop", "units", "start"]),
        (without(installed(), places.UNITS / "colony-watch.timer"), ["stop", "units", "start"]),
        (without(installed(), places.CURRENT), ["stop", "code", "start"]),
        (installed(active=LASTING), []),
        (installed(active=LASTING - {files.SERVER}), ["start"]),
        (installed(active=LASTING - {files.GATE}), ["start"]),
        (installed(active=LASTING - {"colony-prune.timer"}), ["start"]),
        (installed(enabled=LASTING - {files.SERVER}), ["start"]),
        *((without(installed(), link.path), ["commands"]) for link in files.LINKS),
        (installed(members=frozenset({"bob", places.GATE_USER})), ["ape"]),
        (installed(members=frozenset({"ann"})), ["gate"]),
        (installed(members=None), ["gate", "ape"]),
        (installed(needs_profile=True), ["profile"]),
        (installed(releases=frozenset({OLD, NEW})), ["tidy"]),
        (installed(is_migration_due=True), ["stop", "migrate", "start"]),
    ],
)
def test_each_fact_alone_leads_to_its_step(host: Host, steps: list[str]) -> None:
    assert names(plan.install(host, WISH)) == steps


@pytest.mark.parametrize("folder", files.FOLDERS, ids=lambda folder: folder.path.name)
@pytest.mark.parametrize("changes", [{"mode": 0o777}, {"user": "eve"}, {"group": "eve"}, {"kind": "link", "text": "/etc"}])
def test_a_folder_that_others_could_use_is_set_right(folder: Folder, changes: dict[str, Any]) -> None:
    host = installed()
    host = replace(host, entries={**host.entries, folder.path: replace(host.entries[folder.path], **changes)})
    assert acts(plan.install(host, WISH), "folders") == (folder,)


def test_settings_that_people_have_changed_stay() -> None:
    host = installed()
    changed = replace(host.entries[places.SERVER_SETTINGS], text="[run]\nport = 8800\n")
    assert plan.install(replace(host, entries={**host.entries, places.SERVER_SETTINGS: changed}), WISH).steps == ()


def test_an_upgrade_pauses_the_server_and_leaves_the_agents_alone() -> None:
    made = plan.install(upgrade(kept_releases=frozenset({OLD})), WISH)
    assert names(made) == ["stop", "units", "code", "start"]
    assert [act for step in made.steps for act in step.acts if isinstance(act, Stop)] == [Stop((files.SERVER,))]


def test_releases_go_that_neither_new_agents_nor_old_ones_run() -> None:
    older = places.RELEASES / "0.0.9-ccc"
    claudes = {places.CLAUDE / "1": frozenset({older}), places.CLAUDE / "2": frozenset({OLD}), places.CLAUDE / "3": frozenset({NEW})}
    host = upgrade(kept_releases=frozenset({OLD}), claudes=claudes)
    made = plan.install(replace(host, releases=host.releases | {older}), WISH)
    assert acts(made, "tidy") == (Remove(older), Remove(places.CLAUDE / "1"))


def test_the_release_before_stays_whoever_runs_it() -> None:
    older = places.RELEASES / "0.0.9-ccc"
    host = all_after(replace(upgrade(), releases=frozenset({older, OLD, NEW})), plan.install(upgrade(), WISH).steps)
    assert (host.current, host.previous) == (NEW, OLD)
    assert acts(plan.install(host, WISH), "tidy") == (Remove(older),)
    back = replace(host, release=OLD, releases=frozenset({OLD, NEW}))
    there = all_after(back, plan.install(back, WISH).steps)
    assert (there.current, there.previous, there.releases) == (OLD, NEW, frozenset({OLD, NEW}))


def test_a_schema_changes_while_the_server_is_down_and_after_a_copy_was_made() -> None:
    made = plan.install(upgrade(is_migration_due=True), WISH)
    assert names(made)[:3] == ["stop", "migrate", "units"]
    copy, migrate = acts(made, "migrate")
    assert isinstance(copy, Run)
    assert isinstance(migrate, Run)
    assert (copy.user, migrate.user) == (places.SERVER_USER, places.SERVER_USER)
    assert "backup" in copy.argv
    assert migrate.argv == (f"{NEW}/.venv/bin/colony-server", "--config", str(places.SERVER_SETTINGS), "migrate")


@pytest.mark.parametrize("is_migration_due", [False, True])
@pytest.mark.parametrize("previous", [None, places.RELEASES / "0.0.9-ccc"])
def test_the_way_back_leads_to_what_there_was(is_migration_due: bool, previous: Path | None) -> None:
    host = upgrade(is_migration_due=is_migration_due)
    if previous:
        host = replace(host, entries={**host.entries, places.PREVIOUS: entry(Link(places.PREVIOUS, previous))})
    made = plan.install(host, WISH)
    for number in range(len(made.change) + 1):
        back = all_after(all_after(host, made.change[:number]), made.back)
        assert (back.entries, back.active) == (host.entries, host.active)
    puts_back = [act for step in made.back for act in step.acts if isinstance(act, PutBack)]
    assert puts_back == ([PutBack(places.DATA / plan.UPGRADES, places.DATA / "colony.db", places.SERVER_USER)] if is_migration_due else [])


def test_a_first_install_has_no_way_back() -> None:
    assert plan.install(BARE, WISH).back == ()


def test_the_backup_of_postgresql_is_not_ours() -> None:
    wanted = files.render(NEW, POSTGRES, {})
    assert not {*files.BACKUP} & wanted.keys()
    moved = replace(installed(), settings=POSTGRES)
    made = plan.install(moved, WISH)
    removed = [act.path.name for act in acts(made, "units") if isinstance(act, Remove)]
    assert removed == [*files.BACKUP]
    assert plan.install(all_after(moved, made.steps), WISH).steps == ()


def test_only_a_server_whose_database_is_elsewhere_may_leave_this_machine() -> None:
    assert "IPAddressAllow=localhost" in files.render(NEW, ServerSettings(), {})[files.SERVER]
    assert "IPAddress" not in files.render(NEW, POSTGRES, {})[files.SERVER]
    near = replace(POSTGRES, database="postgresql://colony@localhost/colony")
    assert "IPAddressAllow=localhost" in files.render(NEW, near, {})[files.SERVER]


@pytest.mark.parametrize(
    ("changes", "wish", "says"),
    [
        ({"server_account": Account(Path("/home/colony"), False)}, WISH, "a Linux user colony already, and it is not the server's"),
        ({"server_account": Account(places.DATA, False)}, WISH, "there is a Linux user colony already"),
        ({"is_port_free": False}, WISH, "port 8700 is taken; name another with --port"),
        ({"free_bytes": 10**6}, WISH, "has 1 MB free"),
    ],
)
def test_what_is_in_the_way_is_said_before_anything_is_changed(changes: dict[str, Any], wish: Wish, says: str) -> None:
    with pytest.raises(errors.ColonyError, match=says):
        plan.install(replace(BARE, **changes), wish)


def test_a_port_is_changed_where_it_is_set() -> None:
    with pytest.raises(errors.Conflict, match=f"{places.SERVER_SETTINGS} says port 8700; name another in {places.SERVER_SETTINGS}"):
        plan.install(installed(), Wish(port=8800))
    assert plan.install(installed(), Wish(port=8700)).steps == ()


@pytest.mark.parametrize("entry", [Entry("file", 0o755, "root", "root"), Entry("link", 0o777, "root", "root", "/opt/other/colony")])
def test_a_command_of_somebody_else_is_not_replaced(entry: Entry) -> None:
    link = files.LINKS[0]
    with pytest.raises(errors.Conflict, match=f"{link.path} is there already and does not lead to /opt/colony; move it away"):
        plan.install(replace(BARE, entries={link.path: entry}), WISH)


def test_without_anybody_to_name_root_alone_speaks() -> None:
    assert "ape" not in names(plan.install(BARE, Wish()))


def test_a_port_that_is_wished_for_is_written() -> None:
    made = plan.install(replace(BARE, settings=ServerSettings(port=8800)), Wish(port=8800))
    written, of_gate = acts(made, "settings")
    assert isinstance(written, Write)
    assert isinstance(of_gate, Write)
    assert of_gate.path == places.GATE_SETTINGS
    assert "\nport = 8800\n" in written.text
    assert (written.mode, written.user, written.group) == (0o640, "root", places.SERVER_USER)
    assert "\n#port = 8700\n" in settings.first_text(8700)


def test_what_an_install_takes_is_told_without_a_virtual_environment() -> None:
    bare = {"PATH": "/usr/bin:/bin"}
    said = subprocess.run([INSTALL, "--port", "1", "--help"], env=bare, capture_output=True, text=True, check=True).stdout
    options = {name for option in cli.install.params for name in option.opts} | {"--help"}
    assert set(re.findall(r"^  (--[a-z-]+)", said, re.MULTILINE)) == options


def test_what_lies_at_a_path_is_told_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    seen = found.look([tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / "none", tmp_path / "file" / "below", Path("/dev/null")])
    assert {path.name: (each.kind, each.text) for path, each in seen.items()} == {
        tmp_path.name: ("folder", ""),
        "file": ("file", "hello"),
        "link": ("link", "file"),
        "null": ("other", ""),
    }
    owner, group = seen[tmp_path / "file"].user, seen[tmp_path / "file"].group
    assert found.is_so(Write(tmp_path / "file", "hello", 0o640, owner, group), seen)
    assert not found.is_so(Write(tmp_path / "file", "hello", 0o644, owner, group), seen)
    assert not found.is_so(Write(tmp_path / "file", "other", 0o640, owner, group), seen)
    assert found.is_so(Link(tmp_path / "link", Path("file")), seen)
    assert not found.is_so(Folder(tmp_path / "none"), seen)
