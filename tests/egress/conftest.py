"""The fixtures of the gate's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.egress.house import House


@pytest.fixture
def open_house() -> Iterator[Callable[..., House]]:
    """Opens gates; all are closed afterwards."""
    houses: list[House] = []

    def opened(*args: Any, **options: Any) -> House:
        houses.append(House(*args, **options))
        return houses[-1]

    yield opened
    for house in houses:
        house.close()


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    """A gate with the usual bounds, and no rule yet."""
    return open_house()
