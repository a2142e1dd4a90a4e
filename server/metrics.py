"""What the server counts, and how it is told to Prometheus.

Counters begin anew with the process, as Prometheus expects; what the colony holds is asked of the database at each scrape.
The client library would cost 4 µs of each request; this costs one.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


class Histogram:
    """Counts values by the first bound that is not below them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._mutex = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        place = bisect_left(self._bounds, value)
        with self._mutex:
            self._counts[place] += 1
            self._sum += value

    def samples(self, labels: Labels) -> Iterable[Sample]:
        with self._mutex:
            counts, total = list(self._counts), self._sum
        reached = 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], counts, strict=True):
            reached += count
            yield Sample({**labels, "le": bound}, reached, "_bucket")
        yield Sample(labels, total, "_sum")
        yield Sample(labels, reached, "_count")


@dataclass(frozen=True)
class Sample:
    """One number. Label values are names of the colony's own, so none needs escaping."""

    labels: Labels
    value: float
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Iterable[Sample]

    def lines(self) -> Iterable[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for sample in self.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            yield f"{self.name}{sample.suffix}{{{labels}}} {sample.value}"


class Metrics:
    """What has happened since the server started."""

    def __init__(self) -> None:
        self._began_at = time.time()
        self._requests: dict[tuple[str, str], Histogram] = {}
        self._mutex = threading.Lock()
        self._ended: Counter[tuple[str, ...]] = Counter()

    def performed(self, operation: str, code: str, seconds: float) -> None:
        """An operation was performed or refused. `seconds` is its work, without what a long poll waits."""
        found = self._requests.get((operation, code)) or self._requests.setdefault((operation, code), Histogram(SECONDS))
        found.observe(seconds)

    def ended(self, what: Mapping[tuple[str, ...], int]) -> None:
        """Turns and inbox items came to an end: see `server.models.ending`."""
        with self._mutex:
            self._ended.update(what)

    def families(self) -> list[Family]:
        requests = [
            sample
            for (operation, code), found in sorted(self._requests.items())
            for sample in found.samples({"operation": operation, "code": code})
        ]
        with self._mutex:
            ended = sorted(self._ended.items())
        turns = [Sample({"kind": labels[0], "state": labels[1], "outcome": labels[2]}, n) for (what, *labels), n in ended if what == "turn"]
        items = [Sample({"outcome": labels[0]}, n) for (what, *labels), n in ended if what == "item"]
        return [
            Family("colony_request_seconds", "histogram", "Work of each operation, without the waiting of long polls.", requests),
            Family("colony_turns_total", "counter", "Attempts of turns that ended, by what became of the turn.", turns),
            Family("colony_inbox_items_total", "counter", "Inbox items that ended, by outcome.", items),
            *_process(self._began_at),
        ]


def gauge(name: str, help: str, value: float) -> Family:
    return Family(name, "gauge", help, [Sample({}, value)])


def text(families: Iterable[Family]) -> str:
    """Prometheus' text format."""
    return "\n".join(line for family in families for line in family.lines()) + "\n"


def _process(began_at: float) -> list[Family]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    spent = os.times()
    return [
        gauge("process_resident_memory_bytes", "Memory of the process that serves.", resident),
        gauge("process_start_time_seconds", "When it started, in seconds since 1970.", began_at),
        Family("process_cpu_seconds_total", "counter", "Processor time that it used.", [Sample({}, spent.user + spent.system)]),
    ]
