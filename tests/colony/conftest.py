"""The real server that all of these tests share, and a shell before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from colony import operations, patience
from tests.colony.cast import House, Shell


@pytest.fixture(scope="session")
def house(sqlite_file: Path) -> Iterator[House]:
    """Ann and bob (apes), scout and rook (agents) live here, and whoever joined in other tests."""
    yield from _open(sqlite_file)


@pytest.fixture
def own_house(sqlite_file: Path) -> Iterator[House]:
    """One that a test may stop."""
    yield from _open(sqlite_file)


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.setenv("COLONY_URL", house.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return Shell(house, monkeypatch, capsys)


@pytest.fixture
def channel(house: House, request: pytest.FixtureRequest) -> str:
    """A channel of this test's own."""
    name = f"c{abs(hash(request.node.nodeid))}"
    house.call(operations.CREATE_CHANNEL, name=name)
    return name


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0)


def _open(sqlite_file: Path) -> Iterator[House]:
    house = House(sqlite_file)
    try:
        house.start()
        yield house
    finally:
        house.close()
