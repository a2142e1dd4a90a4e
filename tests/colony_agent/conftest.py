"""What most tests of the agent's side start from: a real server, and a healthy agent whose brain is `ECHO`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.colony_agent.agents import Agent, House, housed


@pytest.fixture(scope="module")
def house(sqlite_file: Path) -> Iterator[House]:
    with housed(sqlite_file, "--max-running-turns", "1000") as house:  # tests leave turns behind that nobody ends
        yield house


@pytest.fixture
def scout(house: House, tmp_path: Path) -> Agent:
    return house.agent(tmp_path)
