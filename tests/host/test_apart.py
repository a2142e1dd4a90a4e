"""Two agents, a stranger and the server on one machine: none gets at what is another's. The table is in `tests/host/apart/`.

Each attempt must end as the table says, succeed for whom it may, and end otherwise once the setting that refuses it is taken away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.guest.guest import Guest
from tests.host import cast
from tests.host.apart import page
from tests.host.apart.attempts import ATTEMPTS, OPEN
from tests.host.apart.guards import WITHOUT, Guard
from tests.host.apart.stage import Stage
from tests.host.apart.table import Attempt, By, Open, Who

Outcomes = Callable[[Who | By], dict[str, str]]
REFUSED = [(who, attempt) for attempt in ATTEMPTS for who in attempt.refused]
PROVED = (Who.SERVICE, Who.GATE, Who.SERVER)  # whose guards are taken away, one by one


def named(value: object) -> str:
    return value.says if isinstance(value, Attempt | Open) else value.name if isinstance(value, Who | Guard) else str(value)


@pytest.fixture(scope="module")
def stage(shared_machine: Guest) -> Stage:
    return Stage(shared_machine)


@pytest.fixture(scope="module")
def outcomes(stage: Stage) -> Outcomes:
    """All that is tried from one place is tried at once."""

    @cache
    def tried(where: Who | By) -> dict[str, str]:
        if isinstance(where, By):
            return stage.outcomes(where, {attempt.says: attempt.proof for attempt in ATTEMPTS if attempt.works_for is where})
        refused = {attempt.says: attempt.call for attempt in ATTEMPTS if where in attempt.refused}
        return stage.outcomes(where, refused | {open.says: open.call for open in OPEN if open.who is where})

    return tried


@pytest.mark.parametrize(("who", "attempt"), REFUSED, ids=named)
def test_it_is_refused(outcomes: Outcomes, who: Who, attempt: Attempt) -> None:
    ends, guard = attempt.refused[who]
    assert outcomes(who)[attempt.says] == ends, guard


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=named)
def test_the_same_succeeds_for_who_may(outcomes: Outcomes, attempt: Attempt) -> None:
    assert outcomes(attempt.works_for)[attempt.says] == "ok"


def test_in_podmans_container_all_that_a_turn_tries_is_refused_too(stage: Stage) -> None:
    refused = [attempt for attempt in ATTEMPTS if Who.TURN in attempt.refused]
    ended = stage.contained_outcomes({attempt.says: attempt.call for attempt in refused})
    assert [says for says, how in ended.items() if how == "ok"] == []
    proved = {attempt.says: attempt.proof for attempt in ATTEMPTS if attempt.works_for is By.TURN}
    assert {*stage.contained_outcomes(proved).values()} == {"ok"}


@pytest.mark.parametrize("guard", WITHOUT, ids=named)
def test_without_its_guard_it_ends_otherwise(stage: Stage, guard: Guard) -> None:
    found = 0
    for who in PROVED:
        guarded = {attempt.says: attempt for attempt in ATTEMPTS if who in attempt.refused and attempt.refused[who][1] is guard}
        if guarded:
            found += len(guarded)
            ended = stage.outcomes(who, {says: attempt.call for says, attempt in guarded.items()}, WITHOUT[guard])
            assert [says for says, attempt in guarded.items() if ended[says] == attempt.refused[who][0]] == []
    assert found


@pytest.mark.parametrize("left", OPEN, ids=named)
def test_what_is_said_to_be_open_is_open(outcomes: Outcomes, left: Open) -> None:
    assert outcomes(left.who)[left.says] == "ok"


def test_no_two_attempts_have_one_name() -> None:
    names = [attempt.says for attempt in ATTEMPTS]
    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 40


def test_the_other_lives_through_it_all(stage: Stage, outcomes: Outcomes) -> None:
    for where in (*Who, *By):
        outcomes(where)
    assert stage.machine.unit("agent-rook-worker", "MainPID", "NRestarts") == {"MainPID": stage.facts["worker"], "NRestarts": "0"}
    stage.machine.run("colony", "stop", stage.facts["turn_id"])
    assert cast.answer(stage.machine, cast.say(stage.machine, "@rook still there?")).startswith("you said: @rook")


def test_the_page_shows_what_is_tried() -> None:
    assert page.PAGE.read_text() == page.made(), "make it again: python -m tests.host.apart.page"
