"""What agents use of the model: booked before it is asked, held against the turn's budget, and settled as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from colony import errors, operations, schema
from server import prune
from server.models.model_use import model_uses
from server.models.spending import spending
from tests.server.reaching import settle
from tests.server.support import Colony, only_sqlite


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Both agents have a Linux user."""
    return settle(colony)


def begun(colony: Colony, budget_usd: float | None = None) -> schema.Turn:
    """A turn of scout's."""
    if budget_usd is not None:
        colony.admin.call(operations.SET_LIMITS, schema.SetLimits(agent="scout", budget_usd_per_day=budget_usd))
    colony.post(colony.ann, "@scout")
    return colony.turn(colony.scout)


def meter(colony: Colony, cost_usd: float, id: str = "", linux_user: str = "scout", **more: Any) -> schema.Metered:
    request = schema.Meter(id=id or str(uuid4()), linux_user=linux_user, model="claude-opus-4-5", cost_usd=cost_usd, **more)
    return colony.admin.call(operations.METER, request)


def spent(colony: Colony) -> float:
    return float(sum(row.cost_usd for row in colony.rows(spending)))


def test_what_is_booked_is_taken_from_what_the_turn_may_cost(house: Colony) -> None:
    turn = begun(house, budget_usd=2.0)
    assert turn.reserved_usd == 1.0
    first, second = meter(house, 0.25), meter(house, 0.5)
    assert (first.turn_id, first.attempt, first.left_usd) == (turn.id, 1, 0.75)
    assert second.left_usd == 0.25
    with pytest.raises(errors.BudgetSpent, match=r"this turn may cost \$1\.00; .* this could cost \$1\.05"):
        meter(house, 0.3)
    assert meter(house, 0.25).left_usd == 0.0, "what was refused was not booked"


def test_a_repetition_is_booked_once_and_a_change_by_its_difference(house: Colony) -> None:
    begun(house, budget_usd=2.0)
    name = str(uuid4())
    assert [meter(house, usd, name).left_usd for usd in (0.25, 0.25, 0.75, 0.5)] == [0.75, 0.75, 0.25, 0.5]
    assert meter(house, 0.125, name, is_final=True).left_usd == 0.875
    meter(house, 1.0, name)
    meter(house, 1.0, name, is_final=True)
    assert [row.cost_usd for row in house.rows(model_uses)] == [0.125], "what is final stays"


def test_what_it_really_was_is_booked_even_beyond_what_the_turn_may_cost(house: Colony) -> None:
    turn = begun(house, budget_usd=2.0)
    name = str(uuid4())
    meter(house, 0.5, name)
    assert meter(house, 1.5, name, is_final=True).left_usd == -0.5
    with pytest.raises(errors.BudgetSpent):
        meter(house, 0.0)
    assert house.finish(turn, "ok").cost_usd == 1.5
    assert spent(house) == 1.5


def test_without_a_budget_all_is_counted_and_nothing_refused(house: Colony) -> None:
    turn = begun(house)
    assert meter(house, 1000.0, tokens_in=5, tokens_out=7).left_usd is None
    ended = house.finish(turn, "ok")
    assert (ended.cost_usd, ended.tokens_in, ended.tokens_out) == (1000.0, 5, 7)
    assert spent(house) == 1000.0


@pytest.mark.parametrize(("says", "costs"), [(0.0, 0.5), (0.75, 0.75), (None, 0.5)])
def test_a_turn_costs_what_its_runner_says_but_no_less_than_was_counted(house: Colony, says: float | None, costs: float) -> None:
    turn = begun(house, budget_usd=2.0)
    meter(house, 0.5, tokens_in=100, tokens_out=5)
    ended = house.finish(turn, "ok", usage=schema.Usage(cost_usd=says, tokens_in=7, tokens_out=9))
    assert (ended.cost_usd, ended.tokens_in, ended.tokens_out) == (costs, 100, 9)
    [attempt] = ended.attempts
    assert (attempt.cost_usd, attempt.tokens_in, attempt.tokens_out) == (costs, 100, 9)
    assert spent(house) == costs


def test_a_lost_attempt_costs_what_was_counted_and_the_next_one_counts_anew(house: Colony) -> None:
    turn = begun(house, budget_usd=2.0)
    meter(house, 0.75)
    again = house.turn(house.scout, take_over=True)
    assert (again.id, again.attempt) == (turn.id, 2)
    assert spent(house) == 0.75
    assert meter(house, 0.5).left_usd == 0.5
    assert house.finish(again, "ok").cost_usd == 1.25


def test_a_lost_attempt_of_which_nothing_was_counted_costs_what_it_had_reserved(house: Colony) -> None:
    begun(house, budget_usd=2.0)
    house.turn(house.scout, take_over=True)
    assert spent(house) == 1.0


def test_what_becomes_known_after_the_end_is_added(house: Colony) -> None:
    turn = begun(house, budget_usd=2.0)
    name = str(uuid4())
    meter(house, 0.25, name, tokens_in=10)
    house.finish(turn, "ok", usage=schema.Usage(cost_usd=0.25, tokens_in=10))
    with pytest.raises(errors.StaleTurn, match="is over"):
        meter(house, 0.5, name)
    meter(house, 0.75, name, tokens_in=10, tokens_out=4, is_final=True)
    meter(house, 0.75, name, tokens_in=10, tokens_out=4, is_final=True)
    shown = house.ann.call(operations.TURN, schema.GetTurn(id=turn.id))
    assert (shown.cost_usd, shown.tokens_in, shown.tokens_out) == (0.75, 10, 4)
    assert spent(house) == 0.75


def test_what_becomes_known_after_the_end_is_not_added_twice(house: Colony) -> None:
    """The runner has said it already."""
    turn = begun(house)
    name = str(uuid4())
    meter(house, 0.25, name)
    house.finish(turn, "ok", usage=schema.Usage(cost_usd=1.0))
    meter(house, 0.75, name, is_final=True)
    assert spent(house) == 1.0


def test_an_attempt_that_others_have_ended_adds_what_exceeds_what_was_counted(house: Colony) -> None:
    turn = begun(house)
    meter(house, 0.5, tokens_in=10)
    house.admin.call(operations.STOP, schema.StopTurn(id=turn.id))
    assert spent(house) == 0.5
    ended = house.fail(turn, "stopped", usage=schema.Usage(cost_usd=0.75, tokens_in=12))
    assert (ended.cost_usd, ended.tokens_in) == (0.75, 12)
    assert spent(house) == 0.75


def test_who_runs_no_turn_may_ask_nothing(house: Colony) -> None:
    for linux_user in ("scout", "rook"):
        with pytest.raises(errors.StaleTurn, match="no turn of the agent runs"):
            meter(house, 0.1, linux_user=linux_user)
    with pytest.raises(errors.NotFound, match="no agent has the Linux user nobody"):
        meter(house, 0.1, linux_user="nobody")
    begun(house)
    name = str(uuid4())
    meter(house, 0.1, name)
    with pytest.raises(errors.StaleTurn):
        meter(house, 0.1, name, linux_user="rook")


def test_what_came_to_nothing_is_not_kept(house: Colony) -> None:
    begun(house, budget_usd=2.0)
    name = str(uuid4())
    meter(house, 0.75, name)
    assert meter(house, 0.0, name, is_final=True).left_usd == 1.0
    assert house.count(model_uses) == 0


def test_only_services_and_administrators_meter(house: Colony) -> None:
    begun(house)
    request = schema.Meter(id=str(uuid4()), linux_user="scout", model="m", cost_usd=0.0)
    for caller in (house.ann, house.scout):
        with pytest.raises(errors.Forbidden):
            caller.call(operations.METER, request)


def test_requests_at_once_never_book_more_than_the_turn_may_cost(house: Colony) -> None:
    begun(house, budget_usd=2.0)
    together = Barrier(16)

    def ask(number: int) -> bool:
        together.wait()
        try:
            meter(house, 0.125)
        except errors.BudgetSpent:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        allowed = list(threads.map(ask, range(16)))
    assert allowed.count(True) == 8
    assert sum(row.cost_usd for row in house.rows(model_uses)) == 1.0


def test_old_uses_are_forgotten_and_their_cost_is_not(house: Colony) -> None:
    turn = begun(house)
    meter(house, 0.5)
    house.finish(turn, "ok")
    house.clock.advance(8 * 86_400)
    now = house.clock.now
    assert prune.prune(house.gate.database, now - timedelta(days=7), now).model_uses == 1
    assert house.count(model_uses) == 0
    assert house.turns()[0].cost_usd == 0.5


@only_sqlite
def test_a_budget_that_is_spent_lets_no_further_turn_begin(house: Colony) -> None:
    turn = begun(house, budget_usd=0.5)
    name = str(uuid4())
    meter(house, 0.5, name)
    meter(house, 0.5, name, is_final=True)
    house.finish(turn, "ok", usage=schema.Usage(cost_usd=0.0))
    house.post(house.ann, "@scout")
    assert house.claim(house.scout).reason == "its budget of $0.50 a day is spent"
