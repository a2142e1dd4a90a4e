"""From how an agent lives and what a soul says to the steps in between: no machine is needed to know them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colony import errors, operations, schema
from provisioning.facts import Facts
from provisioning.lived import Lived
from provisioning.record import HOME_MAX_BYTES, MEMORY_MAX_BYTES
from provisioning.soul import Limits, Soul
from provisioning.soul_change import plan
from provisioning.steps import Act, Ask, Run, Start, Step, Stop, Write, WriteAs
from tests.provisioning.cast import RECORD, lives

SETTINGS: dict[str, Any] = {
    "url": "unix:/run/colony/api.sock",
    "agent": {"name": "scout", "runner": "command", "command": ["/bin/true"], "repo": "repo"},
}
LIMITS = Limits(posts_per_turn=10, memory_max=MEMORY_MAX_BYTES, home_max=HOME_MAX_BYTES, turn_timeout_seconds=600)
SOUL = Soul("# Scout\n", "scout", ("general",), "command", ("/bin/true",), None, LIMITS, 30)
OWN = {"turn_timeout_seconds": 600, "pulse_minutes": 30}
NOW = Lived(SOUL, "", SETTINGS)
KEY = {"ANTHROPIC_API_KEY": Path("/etc/colony/credentials/ANTHROPIC_API_KEY")}


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def acts(steps: list[Step]) -> list[Act]:
    return [act for step in steps for act in step.acts]


def settings(steps: list[Step]) -> dict[str, Any]:
    [text] = [act.text for act in acts(steps) if isinstance(act, WriteAs) and act.name == ".colony.toml"]
    return tomllib.loads(text)


def test_for_who_lives_so_already_nothing_is_planned() -> None:
    assert plan(lives(), NOW, SOUL) == []


def test_what_a_soul_leaves_open_stays() -> None:
    assert plan(lives(), NOW, Soul("# Scout\n")) == []


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        (Soul("# Other\n"), ["soul"]),
        (Soul("# Scout\n", limits=Limits(turns_per_hour=3)), ["limits"]),
        (Soul("# Scout\n", watch=("general", "ops")), ["watch"]),
        (Soul("# Scout\n", watch=()), ["unwatch"]),
        (Soul("# Scout\n", watch=("ops",)), ["watch", "unwatch"]),
        (Soul("# Scout\n", pulse_minutes=0), ["stop", "settings", "start"]),
        (Soul("# Scout\n", limits=Limits(turn_timeout_seconds=5)), ["stop", "settings", "start"]),
        (Soul("# Scout\n", runner="command", command=("/bin/false",)), ["stop", "settings", "start"]),
        (Soul("# Scout\n", limits=Limits(memory_max=2**30)), ["stop", "units", "start"]),
        (Soul("# Scout\n", limits=Limits(home_max=2**30)), ["stop", "units", "start"]),
        (Soul("# Scout\n", sandbox="podman", image="/opt/image"), ["stop", "settings", "start"]),
        (Soul("# Scout\n", runner="claude"), ["stop", "settings", "units", "start"]),
    ],
)
def test_only_what_differs_is_changed_and_the_worker_starts_anew_only_for_what_needs_it(said: Soul, steps: list[str]) -> None:
    assert names(plan(lives(credentials=KEY), NOW, said)) == steps


def test_a_sandbox_is_changed_with_its_image_and_bubblewrap_is_not_written_down() -> None:
    now = replace(NOW, soul=replace(SOUL, sandbox="bwrap"))
    contained = plan(lives(), now, Soul("# Scout\n", sandbox="podman", image="/opt/image"))
    assert contained[1].says == "its settings: sandbox bwrap → podman, image none → /opt/image"
    assert settings(contained)["agent"] == {**SETTINGS["agent"], **OWN, "sandbox": "podman", "image": "/opt/image"}
    now = replace(NOW, soul=replace(SOUL, sandbox="podman", image="/opt/image"), settings=settings(contained))
    assert plan(lives(), now, Soul("# Scout\n")) == []
    assert settings(plan(lives(), now, Soul("# Scout\n", sandbox="bwrap")))["agent"] == {**SETTINGS["agent"], **OWN}


def test_a_soul_that_leaves_the_sandbox_open_leaves_one_alone_that_somebody_has_set_by_hand() -> None:
    by_hand = {**SETTINGS, "agent": {**SETTINGS["agent"], "sandbox": "none"}}
    now = replace(NOW, soul=replace(SOUL, sandbox="none"), settings=by_hand)
    assert settings(plan(lives(), now, Soul("# Scout\n", pulse_minutes=0)))["agent"]["sandbox"] == "none"


def test_containers_bring_the_units_of_this_release() -> None:
    now = replace(NOW, soul=replace(SOUL, sandbox="bwrap"))
    facts = lives()
    old = replace(facts, unit_files={**facts.unit_files, "agent-scout-worker.service": "[Service]\nSystemCallFilter=@system-service\n"})
    assert names(plan(old, now, Soul("# Scout\n", sandbox="podman"))) == ["stop", "settings", "units", "start"]
    assert names(plan(old, now, Soul("# Scout\n", pulse_minutes=0))) == ["stop", "settings", "start"]


def test_what_may_fail_comes_before_the_rest() -> None:
    said = Soul("# Other\n", watch=("ops",), runner="claude", limits=Limits(turns_per_hour=3))
    order = ["stop", "settings", "units", "start", "soul", "limits", "watch", "unwatch"]
    assert names(plan(lives(credentials=KEY), NOW, said)) == order


def test_an_interruption_after_any_step_leaves_the_rest_to_do() -> None:
    said = Soul("# Other\n", watch=("ops",), runner="claude", pulse_minutes=0, limits=Limits(turns_per_hour=3, memory_max=2**30))
    facts, now, done = lives(credentials=KEY), NOW, list[str]()
    for step in plan(facts, now, said):
        facts, now = after(facts, now, said, step)
        done.append(step.name)
        left = names(plan(facts, now, said))
        assert not {*left} & ({*done} - {"stop"}), done
        assert "start" in left or step.name in ("start", "soul", "limits", "watch", "unwatch"), done
    assert plan(facts, now, said) == []


def after(facts: Facts, now: Lived, said: Soul, step: Step) -> tuple[Facts, Lived]:
    """What there is once the step is done."""
    soul = now.soul
    match step.name:
        case "stop":
            return replace(facts, active=frozenset()), now
        case "settings":
            is_so = replace(soul, runner="claude", command=(), model="", pulse_minutes=0)
            return facts, replace(now, soul=is_so, settings=settings([step]))
        case "units":
            files = {act.path.name: act.text for act in step.acts if isinstance(act, Write) and act.path.suffix != ".toml"}
            known = replace(RECORD, runner="claude", memory_max_bytes=2**30)
            is_so = replace(soul, limits=soul.limits.model_copy(update={"memory_max": 2**30}))
            return replace(facts, unit_files={**facts.unit_files, **files}, record=known), replace(now, soul=is_so)
        case "start":
            return replace(facts, active=lives().active), now
        case "soul":
            return facts, replace(now, soul=replace(soul, text=said.text))
        case "limits":
            return facts, replace(now, soul=replace(soul, limits=soul.limits.model_copy(update={"turns_per_hour": 3})))
        case "watch":
            return facts, replace(now, soul=replace(soul, watch=("general", "ops")))
        case _:
            return facts, replace(now, soul=replace(soul, watch=("ops",)))


def test_nothing_of_the_agent_runs_while_its_settings_are_replaced() -> None:
    order = [type(act) for act in acts(plan(lives(), NOW, Soul("# Scout\n", pulse_minutes=0)))]
    assert order == [Stop, WriteAs, Start]


def test_the_former_text_is_committed_before_it_is_replaced_and_all_of_it_is_done_as_the_agent() -> None:
    before, written, behind = acts(plan(lives(), NOW, Soul("# Other\n")))
    assert isinstance(before, Run)
    assert isinstance(behind, Run)
    assert isinstance(written, WriteAs)
    assert {act.user for act in (before, written, behind)} == {"scout"}
    assert (written.name, written.text, written.in_place) == ("CLAUDE.md", "# Other\n", True), "a running turn must not find it uncovered"


def test_of_the_settings_only_the_souls_own_change() -> None:
    became = settings(plan(lives(credentials=KEY), NOW, Soul("# Scout\n", runner="claude", model="opus", pulse_minutes=0)))
    agent = {"name": "scout", "runner": "claude", "model": "opus", "repo": "repo", "turn_timeout_seconds": 600, "pulse_minutes": 0}
    assert became == {"url": "unix:/run/colony/api.sock", "agent": agent}


def test_claude_code_chooses_its_model_again_when_the_soul_says_default() -> None:
    thinks = replace(SOUL, runner="claude", command=(), model="opus")
    now = replace(NOW, soul=thinks, settings={"agent": {"name": "scout", "runner": "claude", "model": "opus"}})
    facts = lives(record=replace(RECORD, runner="claude"))
    assert "model" not in settings(plan(facts, now, Soul("# Scout\n", model="")))["agent"]
    assert plan(facts, now, Soul("# Scout\n")) == []


def test_what_it_may_reach_is_what_the_soul_says() -> None:
    now = replace(NOW, soul=replace(NOW.soul, egress=("pypi.org", "*.example.org:8443")))
    assert plan(lives(), now, Soul("# Scout\n")) == [], "a soul that says nothing of it changes nothing"
    found = acts(plan(lives(), now, Soul("# Scout\n", egress=("pypi.org:443", "api.example.com"))))
    assert [act.request for act in found if isinstance(act, Ask)] == [
        schema.SetEgress(agent="scout", effect="allow", host="pypi.org", ports=[443]),
        schema.SetEgress(agent="scout", effect="allow", host="api.example.com"),
        schema.DropEgress(agent="scout", host="*.example.org"),
    ]


def test_only_the_limits_that_differ_are_set() -> None:
    said = Soul("# Scout\n", limits=Limits(posts_per_turn=10, turns_per_hour=3))
    [asked] = acts(plan(lives(), NOW, said))
    assert isinstance(asked, Ask)
    assert asked.operation is operations.SET_LIMITS
    assert asked.request == schema.SetLimits(agent="scout", turns_per_hour=3)


def test_an_agent_watches_for_itself() -> None:
    for act in acts(plan(lives(), NOW, Soul("# Scout\n", watch=("ops",)))):
        assert isinstance(act, Ask)
        assert act.user == "scout"


def test_a_plan_says_what_was_and_what_will_be() -> None:
    said = Soul("# Other\nYou.\n", pulse_minutes=0, limits=Limits(turns_per_hour=3, memory_max=2**30))
    assert [step.says for step in plan(lives(), NOW, said)] == [
        "that it rests meanwhile",
        "its settings: pulse_minutes 30 → 0",
        "its units: memory_max 4G → 1G",
        "its worker",
        "its text: +2 -1 lines",
        "its limits: turns_per_hour none → 3",
    ]


@pytest.mark.parametrize(
    ("facts", "said", "error", "says"),
    [
        ({"record": None}, SOUL, errors.NotFound, "scout does not live on this machine"),
        ({"record": replace(RECORD, is_born=False)}, SOUL, errors.NotFound, "colony-agent birth brings it to life"),
        ({}, replace(SOUL, name="crow"), errors.Invalid, "that is the soul of crow, not of scout"),
        ({}, replace(SOUL, watch=("nowhere",)), errors.NotFound, "no channel nowhere"),
        ({}, Soul("x\n", runner="claude"), errors.Invalid, "colony-agent credential set ANTHROPIC_API_KEY"),
        ({}, Soul("x\n", model="opus"), errors.Invalid, "model is for the runner claude"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(facts: dict[str, Any], said: Soul, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        plan(lives(**facts), NOW, said)
    assert "\n" not in str(caught.value)
