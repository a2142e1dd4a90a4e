"""What an uninstall removes, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from provisioning import places
from provisioning.found import Entry
from provisioning.host import files, removal
from provisioning.host.removal import Remains
from provisioning.steps import Act, Remove, Run, Step, Stop

FOLDER = Entry("folder", 0o755, "root", "root")
WHOLE = Remains(
    entries={
        **dict.fromkeys((*files.paths(), *removal.MEMORIES, places.CODE), FOLDER),
        **{link.path: Entry("link", 0o777, "root", "root", str(link.target)) for link in files.LINKS},
        removal.STAMPS / "stamp-colony-backup.timer": FOLDER,
    },
    agent_units=("agent-scout-dream.timer", "agent-scout-worker.service"),
    agents=("scout",),
    has_server_account=True,
    has_group=True,
)
DATA = {places.DATA, places.SETTINGS, places.HOMES, places.ARCHIVE}


def all_acts(steps: list[Step]) -> list[Act]:
    return [act for step in steps for act in step.acts]


def removed(steps: list[Step]) -> set[Path]:
    return {act.path for act in all_acts(steps) if isinstance(act, Remove)}


def test_services_commands_and_code_go_and_data_stay() -> None:
    steps = removal.plan(WHOLE, purge=False)
    gone = removed(steps)
    assert not gone & DATA
    assert {places.CODE, places.UNITS / files.SERVER, places.UNITS / "agent-scout-worker.service", files.LINKS[0].path} <= gone
    assert gone >= {*removal.MEMORIES}
    assert not [act for act in all_acts(steps) if isinstance(act, Run) and act.argv[0] in ("userdel", "groupdel")]


def test_a_purge_leaves_nothing() -> None:
    steps = removal.plan(WHOLE, purge=True)
    assert removed(steps) >= DATA
    deleted = [act.argv for act in all_acts(steps) if isinstance(act, Run)]
    assert deleted[-3:] == [("userdel", "scout"), ("userdel", places.SERVER_USER), ("groupdel", places.AGENTS_GROUP)]


def test_services_are_stopped_before_anything_of_theirs_goes() -> None:
    for purge in (False, True):
        acts = all_acts(removal.plan(WHOLE, purge=purge))
        stops = [number for number, act in enumerate(acts) if isinstance(act, Stop)]
        first_gone = next(number for number, act in enumerate(acts) if isinstance(act, Remove))
        assert stops[0] < first_gone
        assert acts.index(Remove(places.CODE)) > max(stops)


def test_where_nothing_is_nothing_is_planned() -> None:
    for purge in (False, True):
        assert removal.plan(Remains(entries={}), purge=purge) == []


def test_an_interruption_leaves_the_rest_to_do() -> None:
    """As what is gone is no longer found."""
    for count in range(len(removal.plan(WHOLE, purge=True))):
        gone = removed(removal.plan(WHOLE, purge=True)[:count])
        rest = Remains({path: each for path, each in WHOLE.entries.items() if path not in gone}, (), (), True, True)
        assert places.CODE in removed(removal.plan(rest, purge=True))


def test_a_command_that_leads_elsewhere_stays() -> None:
    link = files.LINKS[0]
    entries = {link.path: Entry("link", 0o777, "root", "root", "/usr/games/colony")}
    assert removal.plan(Remains(entries), purge=True) == []
