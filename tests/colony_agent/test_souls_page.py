"""docs/souls.md says what is so: its program runs as it stands there, and its tables know every key and field."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from colony import operations, schema
from colony_agent.runner import Brief
from colony_agent.runner.command import document
from colony_agent.sandbox.command import environment
from colony_agent.tools import TOOLS
from provisioning import soul
from provisioning.soul_words import flat
from tests.colony_agent.agents import DONE, Agent, House
from tests.colony_agent.cast import scout_at, turn_of

PAGE = (Path(__file__).parents[2] / "docs" / "souls.md").read_text()
PROGRAM, *others = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SOULS = re.findall(r"```markdown\n(.*?)```", PAGE, re.DOTALL)


def table(head: str) -> set[str]:
    """What the first column of the table names."""
    rows = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")}


@pytest.fixture
def counter(house: House, tmp_path: Path) -> Agent:
    program = tmp_path / "count"
    program.write_text(PROGRAM)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return house.agent(tmp_path, command=[str(program)])


def test_its_program_answers_with_the_help_of_a_tool(counter: Agent) -> None:
    assert others == []
    counter.ask("one two")
    counter.ask("three", counter.house.bob)
    done = counter.turn()
    assert done.returncode == DONE, done.stderr
    channels = len(counter.house.admin.call(operations.CHANNELS, schema.ListChannels()).channels)
    assert counter.said() == [f"ann, that were 3 words.\nbob, that were 2 words.\nThere are {channels} channels here."]


def test_its_program_has_nothing_to_do_in_a_pulse_or_a_dream(counter: Agent) -> None:
    (counter.home / "heartbeat.md").write_text("Look.")
    (counter.home / "memory" / "memory.md").write_text("tea\n")
    assert counter.turn("--pulse").returncode == DONE
    assert counter.run("dream").returncode == DONE
    assert (counter.said(), (counter.home / "memory" / "memory.md").read_text()) == ([], "tea\n")


def test_its_souls_are_sound(tmp_path: Path) -> None:
    assert len(SOULS) == 2
    for text in SOULS:
        (tmp_path / "soul.md").write_text(text.replace("/opt/counter/count", "/bin/true"))
        soul.load(tmp_path / "soul.md")


def test_it_knows_every_key_of_a_soul() -> None:
    told = {key.removeprefix("limits.") for key in table("| key |")}
    assert told == flat(soul.Soul("")).keys() - {"command", "image"}  # the runner's, and the sandbox's


def test_it_knows_what_a_program_reads() -> None:
    told = table("| field |")
    read = json.loads(document(Brief("hello", turn_of("hello")), "repo", 5, Path("/x")))
    assert {field for field in told if "." not in field} == read.keys()
    assert {field.removeprefix("turn.") for field in told if "." in field} <= read["turn"].keys()


def test_it_knows_the_tools_and_the_environment(tmp_path: Path) -> None:
    assert f"({', '.join(f'`{name}`' for name in TOOLS)})" in PAGE.replace("\n", " ")
    names = [f"`{name}`" for name in environment(scout_at(tmp_path), None, {})]
    assert f"{', '.join(names[:-1])} and {names[-1]}." in PAGE.replace("\n", " ")
