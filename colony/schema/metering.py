"""What agents use of the model, as the gate counts it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from colony.schema.base import ContactId, Count, LinuxUser, Request, Response, storable


class Meter(Request):
    """Book what a request to the model may cost, before it goes out, and what it did cost, once that is known. Repeating it is harmless.

    Refused when the agent's running turn would cost more than it may; what has been spent already is booked all the same.
    """

    id: ContactId
    linux_user: LinuxUser
    model: Annotated[str, AfterValidator(storable), Field(max_length=200)]
    tokens_in: Count = 0  # those that a cache was written with or read from among them
    tokens_out: Count = 0
    cost_usd: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
    is_final: bool = Field(default=False, description="It is over: nothing is refused, and nothing changes it again.")


class Metered(Response):
    turn_id: int
    attempt: int
    left_usd: float | None = None  # of what the attempt may cost; absent: no budget is set
