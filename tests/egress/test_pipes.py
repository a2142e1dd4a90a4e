"""Pipes are lent: large ones first, and no agent can have them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from egress import pipes
from egress.pipes import KEPT, LARGE, Pipe, Pipes

SMALL_BYTES = 64 * 1024  # the kernel's own


class Lender(Pipes):
    """Closes in the end what was not given back, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lent: set[Pipe] = set()

    def take(self) -> Pipe:
        pipe = super().take()
        self.lent.add(pipe)
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        self.lent.remove(pipe)
        super().give_back(pipe)


@pytest.fixture
def lender() -> Iterator[Lender]:
    made = Lender()
    yield made
    made.close()
    for pipe in made.lent:
        pipe.close()


def test_pipes_that_nobody_gives_back_leave_others_small_ones(lender: Lender) -> None:
    for _ in range(LARGE):
        assert lender.take().size == pipes.LARGE_BYTES
    small = lender.take()
    assert small.size == SMALL_BYTES
    lender.give_back(small)
    assert lender.take() is small


def test_a_large_pipe_that_is_ended_makes_room_for_another(lender: Lender) -> None:
    for _ in range(LARGE):
        pipe = lender.take()
    lender.lent.remove(pipe)
    lender.end(pipe)
    assert lender.take().size == pipes.LARGE_BYTES


def test_a_large_pipe_is_lent_before_small_ones(lender: Lender) -> None:
    large, small = [lender.take() for _ in range(LARGE)], [lender.take() for _ in range(3)]
    for pipe in (large[0], *small):
        lender.give_back(pipe)
    assert lender.take() is large[0]
    assert lender.take() in small


def test_of_what_comes_back_some_are_kept(lender: Lender) -> None:
    lent = [lender.take() for _ in range(LARGE + 2 * KEPT)]
    for pipe in lent:
        lender.give_back(pipe)
    again = [lender.take() for _ in lent]
    assert len(set(again) & set(lent)) == KEPT
