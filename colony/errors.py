"""Every failure a caller can see, and how each face shows it: the code, the HTTP status and the exit code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class ColonyError(Exception):
    """Something went wrong inside the colony; its log says what."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or (self.__doc__ or "").strip())

    @property
    def detail(self) -> str:
        return str(self)


class Invalid(ColonyError):
    """The request is malformed."""

    code, status, exit_code = "invalid", 400, 2


class TooLarge(Invalid):
    """The request is larger than the colony accepts."""

    code, status = "too_large", 413


class MethodNotAllowed(Invalid):
    """This path exists, but not with this method."""

    code, status = "method_not_allowed", 405


class Unauthenticated(ColonyError):
    """No valid identity; send a token (`colony login`) or use the local socket as a known user."""

    code, status, exit_code = "unauthenticated", 401, 3


class Forbidden(ColonyError):
    """You may not do this."""

    code, status, exit_code = "forbidden", 403, 3


class Held(Forbidden):
    """This waits for a person's approval; ask again then."""

    code, exit_code = "held", 12


class NotFound(ColonyError):
    """No such thing, or not visible to you."""

    code, status, exit_code = "not_found", 404, 4


class Conflict(ColonyError):
    """This contradicts what the colony already holds."""

    code, status, exit_code = "conflict", 409, 5


class StaleTurn(Conflict):
    """This attempt of the turn is over; a newer attempt, or none, speaks for the agent now."""

    code, exit_code = "stale_turn", 6


class LimitReached(ColonyError):
    """This is more than you may do."""

    code, status, exit_code = "limit_reached", 429, 9


class BudgetSpent(LimitReached):
    """This turn has cost as much as it may."""

    code, status = "budget_spent", 402


class Unavailable(ColonyError):
    """The colony did not answer as a colony does; it is worth another try."""

    code, status, exit_code = "unavailable", 503, 8


class StorageFull(Unavailable):
    """The colony's disk is full; nothing of this request was kept. Free some space and repeat it."""

    code, status, exit_code = "storage_full", 507, 7


class StorageDamaged(Unavailable):
    """The colony's database is damaged; its operator must stop the server, run `colony-server check` and restore a backup."""

    code, exit_code = "storage_damaged", 11


def _tree(root: type[ColonyError]) -> Iterator[type[ColonyError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


BY_CODE: dict[str, type[ColonyError]] = {kind.code: kind for kind in _tree(ColonyError)}
