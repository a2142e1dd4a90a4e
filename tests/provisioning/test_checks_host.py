"""What is said of a host, judged: who may write what, its units, its server, its clock, its members."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from colony import errors
from provisioning import places
from provisioning.checks import code, folders, gate, host_units, members, server, surroundings, tools, writers
from provisioning.checks.finding import Finding, Unseen
from provisioning.checks.scene import Scene
from provisioning.doctor import OfHost
from provisioning.found import Entry
from provisioning.host import files
from provisioning.host.settings import ServerSettings
from provisioning.steps import Folder, Run
from provisioning.systemd import UnitState
from tests.provisioning.cast import RELEASE, member

SCENE = Scene(release=RELEASE, is_root=True)
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def facts(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


# --- who may write


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (facts(stat.S_IFREG | 0o644), ""),
        (facts(stat.S_IFDIR | 0o775), ""),  # root's group is root
        (facts(stat.S_IFLNK | 0o777), ""),
        (facts(stat.S_IFREG | 0o600, uid=65_001), "it belongs to uid 65001"),
        (facts(stat.S_IFLNK | 0o777, uid=65_001), "it belongs to uid 65001"),
        (facts(stat.S_IFREG | 0o666), "everybody may write it"),
        (facts(stat.S_IFREG | 0o664, gid=65_001), "the group gid 65001 may write it"),
        (facts(stat.S_IFREG | 0o644, gid=65_001), ""),
    ],
)
def test_only_root_may_change_what_runs(found: os.stat_result, says: str) -> None:
    assert writers.besides_root(found) == says


def test_all_that_is_in_a_folder_is_seen_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    (tmp_path / "a/link").symlink_to("/etc")
    assert {path.relative_to(tmp_path).as_posix() for path, _ in writers.below(tmp_path)} == {".", "a", "a/b", "a/b/file", "a/link"}
    assert [path for path, _ in writers.above(tmp_path / "a")] == [*reversed(tmp_path.parents), tmp_path]
    assert list(writers.below(tmp_path / "nothing")) == []


# --- folders, releases, units


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (Entry("folder", 0o700, "root", "root"), None),
        (None, "the folder /x is missing"),
        (Entry("file", 0o700, "root", "root"), "/x is no folder"),
        (Entry("folder", 0o755, "root", "root"), "/x is 0755 root:root, not 0700 root:root"),
        (Entry("folder", 0o700, "scout", "root"), "/x is 0700 scout:root, not 0700 root:root"),
    ],
)
def test_a_folder_is_there_and_whose_it_should_be(entry: Entry | None, says: str | None) -> None:
    assert [finding.what for finding in folders.judged(Folder(Path("/x"), 0o700), entry)] == ([says] if says else [])


def test_a_folder_that_is_made_when_it_is_needed_may_be_missing() -> None:
    assert list(folders.judged(Folder(Path("/x"), 0o700), None, may_lack=True)) == []


def test_a_release_lacks_what_was_not_finished(tmp_path: Path) -> None:
    release = tmp_path / "one"
    assert code.missing(release) == "one"
    (release / ".venv/bin").mkdir(parents=True)
    assert code.missing(release) == "one/.complete"
    (release / ".complete").touch()
    for name in code.PROGRAMS:
        assert code.missing(release) == f"one/.venv/bin/{name}"
        (release / ".venv/bin" / name).touch()
    assert code.missing(release) == ""


def test_the_claude_code_of_a_release_is_what_its_lock_pins(tmp_path: Path) -> None:
    assert tools.pinned(tmp_path) is None
    (tmp_path / "requirements").mkdir()
    (tmp_path / tools.LOCK).write_text("claude-agent-sdk==0.2.186 \\\n    --hash=sha256:00\n")
    assert tools.pinned(tmp_path) == places.CLAUDE / "0.2.186/claude"
    (tmp_path / tools.LOCK).write_text("")
    assert tools.pinned(tmp_path) is None


def drift(changes: Mapping[str, str | None]) -> list[Finding]:
    wanted = files.render(places.RELEASES / "one", ServerSettings(), {})
    present = {name: text for name, text in {**wanted, **changes}.items() if text is not None}
    return list(host_units.drift(wanted, present))


def test_host_units_that_differ_are_found_and_only_those_of_this_release_are_mended() -> None:
    wanted = files.render(places.RELEASES / "one", ServerSettings(), {})
    assert drift({}) == []
    [changed] = drift({files.SERVER: wanted[files.SERVER] + "# mine\n"})
    assert changed.fix
    [older] = drift({files.SERVER: wanted[files.SERVER].replace("/one/", "/older/")})
    assert "runs another release" in older.what
    assert older.fix is None
    [missing] = drift({files.SERVER: None})
    assert (missing.what, missing.fix) == (f"the unit {files.SERVER} is missing", None)


def test_a_backup_of_what_is_not_backed_up_here_is_of_no_use() -> None:
    on_postgres = files.render(places.RELEASES / "one", ServerSettings(database="postgresql://db.example.org/colony"), {})
    on_sqlite = files.render(places.RELEASES / "one", ServerSettings(), {})
    told = [finding.what for finding in host_units.drift(on_postgres, on_sqlite) if finding.severity == "warning"]
    assert sorted(told) == [f"{name} is of no use with these settings" for name in files.BACKUP]


@pytest.mark.parametrize(
    ("state", "is_enabled", "says"),
    [
        (UnitState(files.SERVER, "loaded", "active", "running"), True, None),
        (UnitState("colony-prune.service", "loaded", "inactive", "dead"), False, None),
        (UnitState("colony-prune.timer", "loaded", "active", "waiting"), True, None),
        (UnitState("colony-prune.timer", "loaded", "active", "elapsed"), True, "colony-prune.timer will never come again"),
        (UnitState(files.SERVER, "loaded", "active", "running"), False, f"{files.SERVER} is not enabled"),
        (UnitState(files.SERVER, "loaded", "failed", "failed", "watchdog"), True, f"{files.SERVER} is failed (watchdog)"),
        (UnitState("colony-prune.service", "loaded", "failed", "failed", "oom-kill"), False, "colony-prune.service has failed (oom-kill)"),
        (UnitState(files.SERVER, "masked", "inactive", "dead"), False, f"{files.SERVER} is masked"),
        (UnitState(files.SERVER, "error", "inactive", "dead"), False, f"systemd does not take {files.SERVER} (error)"),
    ],
)
def test_a_host_unit_is_what_it_should_be_or_found(state: UnitState, is_enabled: bool, says: str | None) -> None:
    found = list(host_units.judged(state, is_enabled))
    assert len(found) == (says is not None)
    assert all(finding.what.startswith(says or "") for finding in found)


# --- the server and what is around it


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (None, None),
        (errors.Unauthenticated("who are you?"), None),  # that is an answer
        (errors.Unavailable("no colony there"), "the server does not answer: no colony there"),
        (errors.StorageDamaged(), "the server says: The colony's database is damaged"),
    ],
)
def test_whoever_gets_an_answer_finds_nothing(error: errors.ColonyError | None, says: str | None) -> None:
    found = list(server.answer(replace(SCENE, excuses={"answer": error} if error else {})))
    assert len(found) == (says is not None)
    assert all(finding.what.startswith(says or "") for finding in found)


@pytest.mark.parametrize(
    ("check", "place", "user", "says"),
    [
        (server.socket, "SOCKET", places.SERVER_USER, "not everybody can reach the server: "),
        (gate.socket, "GATE_SOCKET", places.GATE_USER, "not every agent can reach the gate: "),
    ],
)
def test_a_socket_at_which_not_everybody_can_knock_is_found(
    check: OfHost, place: str, user: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "knock.sock"
    monkeypatch.setattr(places, place, path)
    assert list(check(SCENE)) == [], "that nobody answers there is said by others"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        assert list(check(SCENE)) == []
        path.chmod(0o600)
        [closed] = check(SCENE)
    assert closed.what == f"{says}{path} has the mode 0600, not 0666"
    assert closed.fix
    assert closed.fix.acts == (Run(("chmod", "666", str(path)), user=user),)
    path.unlink()
    path.touch()
    [odd] = check(SCENE)
    assert (odd.what, odd.fix) == (f"{path} is no socket", None)


@pytest.mark.parametrize(("said", "is_old"), [("249.11-0ubuntu3", True), ("250", False), ("252.39-1~deb12u2", False), ("?", False)])
def test_a_systemd_that_keeps_no_credentials_is_too_old(said: str, is_old: bool) -> None:
    assert len(list(surroundings.version(said))) == is_old


@pytest.mark.parametrize(("said", "count"), [("yes", 0), ("no", 1), ("", 0)])
def test_a_clock_that_nobody_keeps_right_is_found(said: str, count: int) -> None:
    assert len(list(surroundings.synchronised(said))) == count


def test_a_clock_that_was_set_back_is_known_by_what_the_colony_remembers() -> None:
    heard = [member(last_seen_at=NOW - timedelta(hours=1)), member(last_seen_at=None)]
    assert list(surroundings.ahead(heard, NOW)) == []
    assert list(surroundings.ahead([], NOW)) == []
    [finding] = surroundings.ahead([*heard, member(last_seen_at=NOW + timedelta(minutes=2))], NOW)
    assert finding.what.startswith("the clock was set back: the colony has heard somebody at 2030-01-01 12:02:00 UTC")


def test_members_without_their_linux_user_are_found_but_agents_are_looked_at_elsewhere() -> None:
    users = [
        member(username="ann", kind="ape", linux_user="ann"),
        member(username="bob", kind="ape", linux_user=None),
        member(username="scout", linux_user="scout"),
        member(username="rook", linux_user="tower"),
        member(username="old", kind="ape", linux_user="old", status="dead"),
    ]
    assert list(members.judged(users, {"ann", "tower"})) == []
    found = [finding.what.split(" of the colony")[0] for finding in members.judged(users, set())]
    assert found == ["ann", "rook"]


# --- what is not there to be looked at


def test_what_can_not_be_known_is_told_to_who_asks() -> None:
    blind = replace(SCENE, is_root=False, excuses={"bus": errors.Unavailable("no bus"), "answer": errors.Unavailable("no server")})
    with pytest.raises(Unseen, match="no bus"):
        _ = blind.systemd
    with pytest.raises(Unseen, match="no server"):
        _ = blind.colony
    with pytest.raises(Unseen, match="only root may look"):
        blind.require_root()
    with pytest.raises(Unseen, match="only the host's own release knows"):
        blind.require_own_code()
