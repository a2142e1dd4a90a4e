"""Draws how the colony grows, from the figures of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Points = Mapping[str, Sequence[tuple[float, float]]]


def draw(figures: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Three panels as SVG; the same figures make the same file."""
    values = [each["values"] for each in figures]
    wakes = [each for each in values if "agents" in each and "p50_seconds" in each]
    memory = [each for each in values if "agents" in each and "proportional_bytes" in each]
    queries = defaultdict(list)
    for each in figures:
        if "messages" in each["values"]:
            queries[each["what"].split(",")[0]].append((each["values"]["messages"], each["values"]["seconds"] * 1e3))
    with mpl.rc_context({"svg.hashsalt": "colony", "font.size": 9}):
        whole = Figure(figsize=(11, 3.4), layout="constrained")
        left, middle, right = whole.subplots(1, 3)
        waits = {name: [(each["agents"], each[f"{name}_seconds"] * 1e3) for each in wakes] for name in ("p50", "p99")}
        _panel(left, "mention → awake", "agents waiting", "ms", waits)
        held = {"PSS": [(each["agents"], each["proportional_bytes"] / 2**20) for each in memory]}
        _panel(middle, "server memory", "agents waiting", "MB", held)
        _panel(right, "queries, median", "messages", "ms", queries, is_logarithmic=True)
        whole.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _panel(axes: Axes, title: str, across: str, up: str, lines: Points, *, is_logarithmic: bool = False) -> None:
    for name, points in lines.items():
        if points:
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.set_ylim(bottom=0)
    if is_logarithmic:
        axes.set_xscale("log")
    if any(lines.values()):
        axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
