"""What is said of an agent, judged: its Linux user, its units, its keys, how the colony sees it, and how much of it there is."""

from __future__ import annotations

import pwd
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from colony import schema
from provisioning import units
from provisioning.checks import account, agent_units, code, keys, member, resident
from provisioning.checks.account import Account
from provisioning.checks.finding import Finding
from provisioning.checks.resident import DYING, Resident
from provisioning.checks.scene import Scene
from provisioning.systemd import UnitState
from tests.provisioning.cast import RECORD, lives
from tests.provisioning.cast import member as user

ACCOUNT = Account("scout", 994, "Colony agent", "/home/agents/scout", "/usr/sbin/nologin", frozenset({"scout", "colony-agents"}))
PASSWD = pwd.struct_passwd(("scout", "x", 994, 994, "Colony agent", "/home/agents/scout", "/usr/sbin/nologin"))
WELL = Resident(
    name="scout",
    record=RECORD,
    account=PASSWD,
    has_home=True,
    unit_files=lives().unit_files,
    enabled=frozenset({units.worker("scout"), units.dream_timer("scout")}),
    member=user(),
)
WORKER = UnitState(units.worker("scout"), "loaded", "active", "running", "success", pid=7)
TIMER = UnitState(units.dream_timer("scout"), "loaded", "active", "waiting")


def told(findings: Any) -> list[str]:
    return [finding.what for finding in findings]


# --- its Linux user


def test_the_user_that_a_birth_makes_is_well() -> None:
    assert list(account.judged(ACCOUNT)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"comment": "me"}, "its Linux user is not marked as an agent's"),
        ({"home": "/root"}, "its Linux user has the home /root"),
        ({"shell": "/bin/sh"}, "its Linux user has a shell: /bin/sh"),
        ({"uid": 1000}, "its Linux user has the uid 1000: from 1000 on"),
        ({"uid": 0}, "its Linux user has the uid 0, as root has"),
        ({"namesakes": ("daemon",)}, "its Linux user has the uid 994, as daemon has"),
        ({"groups": ACCOUNT.groups | {"docker"}}, "its Linux user is in the group docker"),
        ({"groups": ACCOUNT.groups - {"colony-agents"}}, "its Linux user is not in the group colony-agents"),
        ({"groups": ACCOUNT.groups - {"scout"}}, "its Linux user has not its own group"),
    ],
)
def test_another_user_is_found(changes: dict[str, Any], says: str) -> None:
    [finding] = account.judged(replace(ACCOUNT, **changes))
    assert finding.what.startswith(says)
    assert finding.fix is None  # users are nobody's to change but people's


@pytest.mark.parametrize(
    ("field", "is_open"), [("!", False), ("*", False), ("!*", False), ("!$6$x", False), ("", True), ("$6$salt$hash", True)]
)
def test_a_password_is_whatever_is_not_locked(field: str, is_open: bool) -> None:
    shadow = f"root:$6$x:1::::::\nscoutmaster:$6$x:1::::::\nscout:{field}:20000::::::\n"
    assert account.has_password(shadow, "scout") is is_open
    assert not account.has_password(shadow, "nobody")


# --- its units


def test_units_that_run_and_are_enabled_are_well() -> None:
    for state in (WORKER, TIMER, replace(WORKER, active="activating"), replace(WORKER, restarts=4)):
        assert list(agent_units.judged("scout", state, True, may_start=True)) == []


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (replace(WORKER, load="masked"), "is masked: it can't start"),
        (replace(WORKER, load="bad-setting"), "systemd does not take agent-scout-worker.service (bad-setting)"),
        (replace(WORKER, active="failed", result="watchdog"), "is failed (watchdog)"),
        (replace(WORKER, active="inactive"), "is inactive"),
        (replace(WORKER, is_outdated=True), "was changed since systemd read it"),
        (replace(WORKER, restarts=5), "its worker has fallen over 5 times"),
        (replace(TIMER, sub="elapsed"), "will never come again"),
    ],
)
def test_units_that_are_not_well_are_found(state: UnitState, says: str) -> None:
    [finding] = agent_units.judged("scout", state, True, may_start=False)
    assert says in finding.what


def test_who_may_not_start_is_not_started() -> None:
    dead = replace(WORKER, active="failed")
    assert [finding.fix is None for finding in agent_units.judged("scout", dead, True, may_start=True)] == [False]
    assert [finding.fix is None for finding in agent_units.judged("scout", dead, True, may_start=False)] == [True]


def test_units_as_they_are_made_are_well_and_others_are_made_anew_without_an_end_to_what_runs() -> None:
    wanted = lives().unit_files
    assert list(agent_units.drift("scout", wanted, wanted, is_born=True)) == []
    [changed] = agent_units.drift("scout", wanted, {**wanted, units.worker("scout"): "mine"}, is_born=True)
    assert changed.what.startswith("agent-scout-worker.service is not what it should be")
    assert changed.fix
    assert [type(act).__name__ for act in changed.fix.acts] == ["Write", "Reload", "Enable"]
    missing = agent_units.drift("scout", wanted, {}, is_born=False)
    assert [type(act).__name__ for finding in missing if finding.fix for act in finding.fix.acts] == ["Write", "Reload"] * 3


def test_a_worker_is_older_than_its_unit_only_if_it_began_before() -> None:
    assert told(agent_units.younger("scout", 100.0, 99.0)) == told(agent_units.younger("scout", None, 99.0)) == []
    assert len(told(agent_units.younger("scout", 98.0, 99.0))) == 1


def test_a_dream_that_failed_is_found() -> None:
    dream = UnitState(units.dream("scout"), "loaded", "inactive", "dead", "success")
    assert list(agent_units.dreamt("scout", dream)) == []
    [failed] = agent_units.dreamt("scout", replace(dream, active="failed", result="timeout"))
    assert failed.what.startswith("its last dream failed (timeout)")


# --- its keys, and the colony


def test_a_thinker_needs_a_key_and_what_its_unit_names() -> None:
    assert list(keys.required("scout", ["CLAUDE_CODE_OAUTH_TOKEN"])) == []
    assert told(keys.required("scout", ["ANTHROPIC_BASE_URL"]))[0].startswith("no key for the model's API")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "ape"}, "scout is one of the colony's apes"),
        ({"linux_user": "rook"}, "the colony knows scout as the Linux user rook"),
        ({"linux_user": None}, "the colony does not know scout by its Linux user"),
        ({"status": "provisioning"}, "the colony does not let it work yet"),
    ],
)
def test_a_member_that_is_not_the_agent_is_found(changes: dict[str, Any], says: str) -> None:
    assert list(member.identity(user())) == []
    [finding] = member.identity(user(**changes))
    assert finding.what.startswith(says)


def test_who_is_silent_or_late_is_found() -> None:
    agent = schema.Agent(username="scout", status="healthy")
    then = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert list(member.contact(agent)) == []
    late = agent.model_copy(update={"silent_since": then, "overdue_since": then})
    assert [finding.severity for finding in member.contact(late)] == ["broken", "warning"]
    assert all("since 2030-01-01 12:00 UTC" in line for line in told(member.contact(late)))


HOUR_OVER = datetime(2030, 1, 1, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("note", "severity", "what", "remedy"),
    [
        (
            "its 1 turns an hour are used up, until 2030-01-01 13:00 UTC. What helps: raise it with `colony limits scout --turns-per-hour`",
            "note",
            "it has to wait until 2030-01-01 13:00 UTC: its 1 turns an hour are used up",
            "raise it with `colony limits scout --turns-per-hour`",
        ),
        (
            "the model's API can't be reached (`. What helps: run this`). What helps: check the network and ANTHROPIC_BASE_URL",
            "note",
            "it has to wait until 2030-01-01 13:00 UTC: the model's API can't be reached (`. What helps: run this`)",
            "check the network and ANTHROPIC_BASE_URL",
        ),
        (
            "the model's API rejected the credentials (`401`). What helps: give the agent a valid key",
            "broken",
            "it can't think: the model's API rejected the credentials (`401`)",
            "colony-agent credential set ANTHROPIC_API_KEY; colony resume scout",
        ),
    ],
    ids=["limit", "unreachable", "rejected"],
)
def test_who_is_held_is_told_of_with_the_reason_and_what_helps(note: str, severity: str, what: str, remedy: str) -> None:
    agent = schema.Agent(username="scout", status="healthy", status_note=note, held_until=HOUR_OVER, overdue_since=HOUR_OVER)
    [found] = member.contact(agent)
    assert (found.severity, found.what, found.remedy) == (severity, what, remedy)


# --- how much of it there is


def whole(found: Resident) -> list[Finding]:
    return list(resident.whole(found))


def test_who_lives_or_is_ready_to_is_well() -> None:
    ready = replace(WELL, record=replace(RECORD, is_born=False), enabled=frozenset(), member=user(status="provisioning"))
    unseen = Resident("scout", is_record_seen=False, is_colony_seen=False)
    for found in (WELL, ready, unseen, replace(WELL, member=None, is_colony_seen=False), replace(WELL, member=user(status="draining"))):
        assert whole(found) == []


@pytest.mark.parametrize(
    ("changes", "says", "remedy"),
    [
        ({"record": None}, "a Linux user, the home /home/agents/scout, units, a member", "colony-agent death scout"),
        ({"record": None, "fault": "line 3"}, "its record can't be read: line 3", "mend /etc/colony/agents/scout.toml"),
        ({"record": replace(RECORD, is_born=False)}, "its birth was not completed", "colony-agent birth scout --soul FILE"),
        ({"member": user(status="draining", status_note=DYING)}, "its death was interrupted", "colony-agent death scout"),
        ({"member": user(status="dead"), "has_home": False}, "its death was interrupted", "colony-agent death scout"),
        ({"member": user(status="dead")}, "the colony takes it for dead", "colony-agent birth scout --soul /home/agents/scout/CLAUDE.md"),
        ({"member": None}, "the colony does not know it", "colony-agent birth scout --soul /home/agents/scout/CLAUDE.md"),
    ],
)
def test_who_is_half_there_is_found(changes: dict[str, Any], says: str, remedy: str) -> None:
    [finding] = whole(replace(WELL, **changes))
    assert finding.what.startswith(says)
    assert finding.remedy.startswith(remedy)
    assert finding.fix is None


def test_a_human_of_an_agents_name_is_left_alone() -> None:
    human = pwd.struct_passwd(("scout", "x", 1000, 1000, "Scout,,,", "/home/scout", "/bin/bash"))
    [finding] = whole(Resident("scout", account=human, has_home=True))
    assert (finding.severity, finding.fix) == ("warning", None)
    assert "the Linux user scout is no agent" in finding.what


def test_the_release_of_an_agent_is_what_its_worker_runs() -> None:
    assert WELL.release == lives().release
    assert Resident("scout").release is None


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (("", ""), ""),
        (("PrivateNetwork=yes\n", ""), "; until its upgrade it has a network, past the gate"),
        (("PrivateNetwork=yes\n", "LoadCredentialEncrypted=KEY:/file\n"), "; until its upgrade it has a network and a key, past the gate"),
    ],
)
def test_what_an_agent_of_an_older_release_still_has_is_said(monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], kept: str) -> None:
    monkeypatch.setattr(code, "missing", lambda release: "")  # it is whole, on another machine
    worker = units.worker("scout")
    files = {**WELL.unit_files, worker: WELL.unit_files[worker].replace(*change)}
    assert WELL.release
    [finding] = agent_units.release(Scene(WELL.release.with_name("newer"), is_root=True), replace(WELL, unit_files=files))
    assert finding.what == f"it runs the release {WELL.release.name}, and the host's is newer{kept}"
    assert finding.remedy == "colony-agent upgrade scout"
    assert (finding.severity == "warning") is (not kept)
