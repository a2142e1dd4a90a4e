"""What agents use of the model, held against what their turns may cost while they run."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row, select

from colony import errors, schema
from server.models import model_use, settle
from server.models.turn import running, turns

ROUNDING_USD = 1e-9  # what adding many small sums may lose


def meter(connection: Connection, agent_id: int, request: schema.Meter, now: datetime) -> schema.Metered:
    """Book what a request to the model may cost, or did cost. What comes after its attempt has ended is added to that.

    Raises `StaleTurn` for what belongs to no running attempt and asks for leave, `BudgetSpent` for more than the attempt may cost.
    """
    known = model_use.find(connection, request.id)
    turn = _locked(connection, agent_id, known.turn_id) if known else running(connection, agent_id)
    if turn is None:
        raise errors.StaleTurn("no turn of the agent runs, so nothing may be asked of the model")
    number = known.attempt if known else turn.attempt
    is_over = turn.state != "running" or turn.attempt != number
    if known and known.is_final:
        return schema.Metered(turn_id=turn.id, attempt=number)
    if is_over and not request.is_final:
        raise errors.StaleTurn("the turn that has asked the model is over")
    model_use.put(connection, turn.id, number, request, now)
    used = model_use.of_attempt(connection, turn.id, number)
    if is_over:
        settle.count_late(connection, turn, number, used, now)
        return schema.Metered(turn_id=turn.id, attempt=number)
    left_usd = turn.reserved_usd - (used.cost_usd or 0.0) if turn.reserved_usd else None
    if left_usd is not None and left_usd < -ROUNDING_USD and not request.is_final:
        raise errors.BudgetSpent(
            f"this turn may cost ${turn.reserved_usd:.2f}; with what has been asked already, this could cost ${used.cost_usd:.2f}"
        )
    return schema.Metered(turn_id=turn.id, attempt=number, left_usd=left_usd)


def _locked(connection: Connection, agent_id: int, turn_id: int) -> Row[tuple[object, ...]] | None:
    """The turn, if it is the agent's: nobody else ends it until the transaction does."""
    mine = turns.c.id == turn_id, turns.c.agent_id == agent_id
    return connection.execute(select(turns).where(*mine).with_for_update(key_share=True)).first()
