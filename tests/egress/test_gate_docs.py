"""The page on egress names every bound and every refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from egress.refusals import Refusal
from egress.settings import Bounds

PAGE = (Path(__file__).parents[2] / "docs" / "egress.md").read_text()


def _kinds(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)


@pytest.mark.parametrize("name", [each.name for each in fields(Bounds)])
def test_each_bound_is_on_the_page_with_its_default(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    said = row.split("|")[2].strip()
    number, _, unit = said.partition(" ")
    assert int(number) * {"": 1, "MiB": 2**20, "GiB": 2**30}[unit] == getattr(Bounds(), name)


@pytest.mark.parametrize("kind", list(_kinds(Refusal)), ids=lambda kind: kind.__name__)
def test_each_refusal_is_on_the_page_with_its_status(kind: type[Refusal]) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind.code}` |"))
    assert str(kind.status) in row.split("|")[2]
