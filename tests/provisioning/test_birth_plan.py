"""From what there is to the steps that are missing: no machine is needed to know them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colony import errors, operations, schema
from provisioning import birth
from provisioning.facts import Facts
from provisioning.steps import Ask, Enable, Reload, Settle, Start, Step, Write
from provisioning.units import lasting
from provisioning.wish import Wish
from tests.provisioning.cast import NOTHING, RECORD, WISH, lives, member

ALL = ["record", "member", "user", "home", "limits", "watch", "units", "start", "healthy", "welcome", "born"]


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_where_nothing_is_everything_is_made_in_this_order() -> None:
    assert names(birth.plan(NOTHING, WISH)) == ALL


def test_for_an_agent_that_lives_nothing_is_planned() -> None:
    assert birth.plan(lives(), WISH) == []


@pytest.mark.parametrize("status", ["paused", "draining"])
def test_an_agent_that_rests_is_left_in_peace(status: str) -> None:
    assert birth.plan(lives(member=member(status=status)), WISH) == []


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"has_account": False}, ["user"]),
        ({"is_home_complete": False}, ["home"]),
        ({"unit_files": {}}, ["units"]),
        ({"enabled": frozenset()}, ["units"]),
        ({"active": frozenset()}, ["start"]),
        ({"member": member(status="provisioning")}, ["limits", "watch", "healthy", "welcome", "born"]),
        ({"record": replace(RECORD, is_born=False)}, ["limits", "watch", "healthy", "welcome", "born"]),
        ({"member": None}, ["member", "limits", "watch", "healthy", "welcome", "born"]),
        ({"member": member(status="dead", linux_user=None)}, ["member", "limits", "watch", "healthy", "welcome", "born"]),
    ],
)
def test_only_what_is_missing_is_made(changes: dict[str, Any], steps: list[str]) -> None:
    assert names(birth.plan(lives(**changes), WISH)) == steps


ARCHIVE = Path("/var/backups/colony-agents/living/scout-20300101T120000Z.tar.gz")
RETURN = replace(WISH, archive=ARCHIVE, repo="https://git.example.org/x.git")
BEGUN = replace(RECORD, origin=ARCHIVE.name, is_born=False)


def settled(steps: list[Step]) -> Settle:
    [act] = [act for step in steps for act in step.acts if isinstance(act, Settle)]
    return act


def test_a_home_from_an_archive_is_never_begun_by_git_and_gets_its_clone() -> None:
    steps = birth.plan(NOTHING, RETURN)
    assert names(steps) == ALL
    assert (settled(steps).archive, settled(steps).repo, settled(steps).is_first) == (ARCHIVE, RETURN.repo, False)
    assert settled(birth.plan(NOTHING, WISH)).is_first
    texts = [act.text for step in steps for act in step.acts if isinstance(act, Write) and act.path == RECORD.path]
    assert all(f'origin = "{ARCHIVE.name}"' in text and f'repo = "{RETURN.repo}"' in text for text in texts)


def test_a_newborn_gets_its_clone_and_who_lives_gets_none_into_its_home() -> None:
    wish = replace(WISH, repo="https://git.example.org/x.git")
    assert settled(birth.plan(NOTHING, wish)).repo == wish.repo
    born = lives(record=replace(RECORD, repo=wish.repo), is_home_complete=False)
    assert settled(birth.plan(born, wish)).repo is None, "git does what it finds in a home"


def test_what_is_said_of_a_step_names_what_it_is_about() -> None:
    said = {step.name: step.says for step in birth.plan(NOTHING, replace(RETURN, owner="ann"))}
    assert said["member"] == "scout in the colony, as ann's"
    assert said["home"] == f"its home /home/agents/scout from {ARCHIVE} with a clone of {RETURN.repo}"
    said = {step.name: step.says for step in birth.plan(NOTHING, WISH)}
    assert (said["member"], said["home"]) == ("scout in the colony", "its home /home/agents/scout")


def test_who_comes_back_is_not_welcomed_as_a_newborn() -> None:
    [said] = [act.request for act in birth.plan(NOTHING, RETURN)[-2].acts if isinstance(act, Ask)]
    assert isinstance(said, schema.PostMessage)
    assert said.body.startswith("@scout welcome back")
    assert ARCHIVE.name in said.body


def test_a_return_that_was_interrupted_goes_on_and_one_that_is_complete_has_nothing_to_do() -> None:
    half = lives(record=BEGUN, is_home_complete=False)
    assert settled(birth.plan(half, RETURN)).archive == ARCHIVE
    assert "home" not in names(birth.plan(lives(record=BEGUN), RETURN))
    assert birth.plan(lives(record=replace(BEGUN, is_born=True)), RETURN) == []
    assert birth.plan(lives(record=replace(BEGUN, is_born=True)), WISH) == []


def test_an_agent_that_has_lost_its_home_gets_it_back() -> None:
    steps = birth.plan(lives(has_home=False, is_home_complete=False), RETURN)
    assert names(steps) == ["record", "home", "start"]
    assert settled(steps).archive == ARCHIVE


@pytest.mark.parametrize(
    "found",
    [
        lives(),
        lives(record=replace(RECORD, is_born=False)),
        lives(record=replace(BEGUN, origin="another")),
        lives(record=None, has_record=False, is_home_complete=False),
        lives(record=replace(BEGUN, is_born=True), is_home_complete=False),
    ],
    ids=["it lives", "a birth without an archive", "another archive", "a home of nobody's", "a home that lacks something"],
)
def test_no_home_that_is_there_is_written_over(found: Facts) -> None:
    with pytest.raises(errors.Conflict, match="has a home already"):
        birth.plan(found, RETURN)


def test_who_was_to_come_back_is_not_born_empty() -> None:
    with pytest.raises(errors.Conflict, match=f"was to have its home from {ARCHIVE.name}"):
        birth.plan(lives(record=BEGUN, is_home_complete=False), WISH)
    assert names(birth.plan(lives(record=replace(BEGUN, is_born=True), is_home_complete=False), WISH)) == ["home"]


def test_an_interruption_after_any_step_leaves_the_rest_to_do() -> None:
    """As if each step had been the last: the next plan holds those that come after it, and no new ones."""
    facts, done = replace(NOTHING, unit_files={}), []
    for step in birth.plan(NOTHING, WISH):
        facts = after(facts, step)
        done.append(step.name)
        left = {*names(birth.plan(facts, WISH))}
        assert left >= {*ALL} - {*done}
        assert not left & ({*done} - {"limits", "watch", "healthy", "welcome"}), done
    assert birth.plan(facts, WISH) == []


def after(facts: Facts, step: Step) -> Facts:
    """What there is once the step is done."""
    done = lives()
    match step.name:
        case "record":
            return replace(facts, record=replace(RECORD, is_born=False), has_record=True)
        case "member":
            return replace(facts, member=member(status="provisioning"))
        case "user":
            return replace(facts, has_account=True)
        case "home":
            return replace(facts, has_home=True, is_home_complete=True)
        case "units":
            return replace(facts, unit_files=done.unit_files, enabled=done.enabled)
        case "start":
            return replace(facts, active=done.active)
        case "healthy":
            return replace(facts, member=member())
        case "born":
            return replace(facts, record=RECORD)
        case _:
            return facts


def test_without_a_start_it_is_made_ready_only() -> None:
    wish = replace(WISH, start=False)
    assert names(birth.plan(NOTHING, wish)) == ["record", "member", "user", "home", "limits", "watch", "units"]
    ready = lives(enabled=frozenset(), active=frozenset(), member=member(status="provisioning"), record=replace(RECORD, is_born=False))
    assert names(birth.plan(ready, wish)) == ["limits", "watch"]
    assert names(birth.plan(ready, WISH)) == ["limits", "watch", "units", "start", "healthy", "welcome", "born"]


def created(steps: list[Step]) -> schema.CreateUser:
    [asked] = [act.request for step in steps for act in step.acts if isinstance(act, Ask) and act.operation is operations.CREATE_USER]
    assert isinstance(asked, schema.CreateUser)
    return asked


@pytest.mark.parametrize(
    ("owner", "caller", "belongs_to"),
    [
        (None, None, None),
        (None, "ann", "ann"),  # bob has no Linux user
        (None, "stranger", None),
        ("bob", None, "bob"),
        ("bob", "ann", "bob"),
    ],
)
def test_a_newborn_belongs_to_who_is_named_or_else_to_the_person_who_called(owner: str, caller: str, belongs_to: str) -> None:
    wish = replace(WISH, owner=owner, caller=caller)
    assert created(birth.plan(NOTHING, wish)).owner == belongs_to
    reborn = lives(member=member(status="dead", linux_user=None, owner="bob"))
    assert created(birth.plan(reborn, wish)).owner == belongs_to


def test_who_lives_is_given_to_another_only_by_name() -> None:
    anns = lives(member=member(owner="ann"))
    assert birth.plan(anns, replace(WISH, caller="stranger")) == []
    assert birth.plan(anns, replace(WISH, owner="ann")) == []
    [step] = birth.plan(anns, replace(WISH, owner="bob"))
    assert [act.request for act in step.acts if isinstance(act, Ask)] == [schema.SetOwner(agent="scout", owner="bob")]


def test_an_owner_must_be_known() -> None:
    with pytest.raises(errors.NotFound, match="no person of this colony is called zoe"):
        birth.plan(NOTHING, replace(WISH, owner="zoe"))


def test_the_welcome_is_one_message_however_often_it_is_sent() -> None:
    facts = replace(NOTHING, record=replace(RECORD, is_born=False), has_record=True)
    asked = [
        act.request
        for _ in range(2)
        for step in birth.plan(facts, WISH)
        for act in step.acts
        if isinstance(act, Ask) and isinstance(act.request, schema.PostMessage)
    ]
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert RECORD.born_at in (asked[0].client_id or "")


def test_units_are_read_before_they_are_started_and_only_changed_ones_are_written() -> None:
    lived = lives()
    one = {name: text for name, text in lived.unit_files.items() if "timer" not in name}
    [units] = birth.plan(replace(lived, unit_files=one), WISH)
    assert [act.path.name for act in units.acts if isinstance(act, Write)] == ["agent-scout-dream.timer"]
    assert not [act for act in units.acts if isinstance(act, Reload | Enable)], "systemd has not seen it yet, and it is enabled"
    [units] = birth.plan(replace(lived, unit_files=dict.fromkeys(lived.unit_files, "of another release"), enabled=frozenset()), WISH)
    assert units.acts[-2:] == (Reload(), Enable(lasting("scout")))
    order = names(birth.plan(NOTHING, WISH))
    assert order.index("units") < order.index("start") < order.index("healthy")


def test_it_is_born_into_the_present_release_and_stays_in_its_own_memory() -> None:
    texts = {act.path.name: act.text for step in birth.plan(NOTHING, WISH) for act in step.acts if isinstance(act, Write)}
    assert "ExecStart=/opt/colony/releases/one/.venv/bin/colony-agent worker" in texts["agent-scout-worker.service"]
    assert f"MemoryMax={WISH.memory_max_bytes}\n" in texts["agent-scout-worker.service"]
    assert any(isinstance(act, Start) for step in birth.plan(NOTHING, WISH) for act in step.acts)


@pytest.mark.parametrize(
    ("changes", "wish", "error", "says"),
    [
        ({}, replace(WISH, name="Scout"), errors.Invalid, "can't be an agent's name"),
        ({}, replace(WISH, name="a" * 32), errors.Invalid, "can't be an agent's name"),
        ({}, replace(WISH, name="a-"), errors.Invalid, "can't be an agent's name"),
        ({"is_foreign": True}, WISH, errors.Conflict, "a Linux user or group scout is there already"),
        ({"member": member(kind="ape")}, WISH, errors.Conflict, "one of the colony's apes"),
        ({"member": member(linux_user=None)}, WISH, errors.Conflict, "lives elsewhere"),
        ({"record": replace(RECORD, runner="claude")}, WISH, errors.Conflict, "must die first"),
        ({"record": RECORD, "member": member()}, replace(WISH, repo="/srv/x"), errors.Conflict, "lives, with no repository"),
        ({"record": replace(RECORD, repo="/y"), "member": member()}, replace(WISH, repo="/x"), errors.Conflict, "with a clone of /y"),
        ({}, Wish("scout", "soul"), errors.Invalid, "colony-agent credential set ANTHROPIC_API_KEY"),
        ({}, replace(WISH, watch=("general", "nowhere")), errors.NotFound, "no channel nowhere"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(changes: dict[str, Any], wish: Wish, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        birth.plan(replace(NOTHING, **changes), wish)
    assert "\n" not in str(caught.value)


def test_no_agent_is_given_a_key_or_a_network() -> None:
    key = {"ANTHROPIC_API_KEY": Path("/etc/colony/credentials/ANTHROPIC_API_KEY")}
    for wish in (Wish("scout", "soul"), WISH):
        said = [line for text in texts(replace(NOTHING, credentials=key), wish) for line in text.splitlines()]
        assert [line for line in said if line.startswith(("LoadCredential", "PrivateNetwork", "IPAddress"))] == [
            *("PrivateNetwork=yes", "IPAddressDeny=any", "IPAddressAllow=localhost") * 2
        ]


def test_what_the_soul_may_reach_is_allowed_before_it_runs() -> None:
    steps = birth.plan(NOTHING, replace(WISH, egress=("pypi.org", "*.example.org:443")))
    names = [step.name for step in steps]
    assert names.index("member") < names.index("egress") < names.index("start")
    [step] = [step for step in steps if step.name == "egress"]
    assert [act.request for act in step.acts if isinstance(act, Ask)] == [
        schema.SetEgress(agent="scout", effect="allow", host="pypi.org"),
        schema.SetEgress(agent="scout", effect="allow", host="*.example.org", ports=[443]),
    ]


def texts(facts: Facts, wish: Wish) -> list[str]:
    return [act.text for step in birth.plan(facts, wish) for act in step.acts if isinstance(act, Write)]
