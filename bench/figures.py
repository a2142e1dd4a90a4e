"""What a measurement finds: figures, each beside its budget and the peers'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the report. `is_met` is None where there is no budget; `values` hold the figure for machines."""

    what: str
    figure: str
    budget: str = ""
    is_met: bool | None = None
    peers: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: ""}[self.is_met]


@dataclass(frozen=True)
class Plan:
    """How much to measure, and where to keep what it needs."""

    folder: Path
    quick: bool
    history: int  # messages in the large history
    rest_seconds: float  # for which a host is left in peace

    def fewer(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual


Measurement = Callable[[Plan], Iterator[Figure]]


class Missing(Exception):
    """Something that a measurement needs is not on this machine."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def milliseconds(seconds: Sequence[float]) -> str:
    """The 50th and 99th percentile, in milliseconds."""
    return f"{quantile(seconds, 0.5) * 1e3:.1f} / {quantile(seconds, 0.99) * 1e3:.1f}"
