"""What is left of an agent decides what its death still has to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colony import errors
from provisioning import death
from provisioning.steps import Remove, Run, Step
from tests.provisioning.cast import NOTHING, lives, member


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_all_of_a_living_agent_goes_in_this_order() -> None:
    assert names(death.plan(lives(), "scout-now")) == ["draining", "units", "home", "user", "dead", "record"]


def test_without_an_archive_nothing_is_kept() -> None:
    def kept(archive_name: str | None) -> list[Run]:
        return [act for step in death.plan(lives(), archive_name) for act in step.acts if isinstance(act, Run) and "tar" in act.argv]

    assert len(kept("scout-now")) == 1
    assert kept(None) == []


def test_backups_stay_unless_nothing_is_to_be_kept() -> None:
    backups = (Path("/var/backups/one"), Path("/var/backups/two"))
    assert "backups" not in names(death.plan(lives(backups=backups), "scout-now"))
    [step] = [step for step in death.plan(lives(backups=backups), None) if step.name == "backups"]
    assert step.acts == (Remove(backups[0]), Remove(backups[1]))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"has_record": True}, ["record"]),
        ({"member": member(status="provisioning")}, ["dead"]),
        ({"has_account": True}, ["user"]),
        ({"has_home": True}, ["home"]),
        ({"unit_files": {"agent-scout-worker.service": ""}}, ["units"]),
        ({"enabled": frozenset({"agent-scout-worker.service"})}, ["units"]),
        ({"active": frozenset({"agent-scout-worker.service"})}, ["units"]),
    ],
)
def test_what_an_interruption_left_goes_too(changes: dict[str, Any], steps: list[str]) -> None:
    assert names(death.plan(replace(NOTHING, **changes), "scout-now")) == steps


def test_where_nothing_is_nobody_dies() -> None:
    with pytest.raises(errors.NotFound, match="no agent scout lives on this machine"):
        death.plan(NOTHING, "x")
    with pytest.raises(errors.NotFound):
        death.plan(replace(NOTHING, member=member(status="dead", linux_user=None)), "x")
    with pytest.raises(errors.NotFound):
        death.plan(replace(NOTHING, member=member(kind="ape", linux_user=None)), "x")


@pytest.mark.parametrize("changes", [{"is_foreign": True, "has_account": True}, {"member": member(linux_user=None)}])
def test_who_is_no_agent_of_this_machine_is_spared(changes: dict[str, Any]) -> None:
    with pytest.raises(errors.Conflict):
        death.plan(replace(NOTHING, **changes), "x")
