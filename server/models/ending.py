"""What a transaction brought to an end, counted on its connection; the gate adds it to the metrics once it is committed."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection

_KEY = "colony.endings"
Endings = defaultdict[tuple[str, ...], int]  # how many of ("item", outcome) and ("turn", kind, state, outcome)


def begin(connection: Connection) -> Endings:
    """Count from zero; gives the counter."""
    connection.info[_KEY] = found = Endings(int)
    return found


def of_items(connection: Connection, outcome: str, count: int) -> None:
    if count:
        _counted(connection)["item", outcome] += count


def of_turn(connection: Connection, kind: str, state: str, outcome: str) -> None:
    """An attempt has ended, which leaves the turn in this state."""
    _counted(connection)["turn", kind, state, outcome] += 1


def _counted(connection: Connection) -> Endings:
    found: Endings = connection.info.get(_KEY, Endings(int))  # nobody counts what a command does without a server
    return found
