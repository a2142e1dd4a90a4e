"""`colony-agent soul` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.colony_agent.test_agent_cli import run

SOULS = Path(__file__).parents[2] / "souls"


def test_a_sound_soul_is_one_line_with_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "scout.md"
    limits = "{budget_usd_per_day: 2.50, memory_max: 1536M, home_max: 20G}"
    file.write_text(
        f"---\nname: scout\nwatch: [general, ops]\nrunner: command:sh -c 'a b'\nlimits: {limits}\npulse_minutes: 0\n---\nYou.\n"
    )
    done = run("soul", "check", str(file))
    said = (
        "name scout; runner command; command sh -c 'a b'; watch general ops; budget_usd_per_day 2.5; memory_max 1536M; home_max 20G; "
        "pulse_minutes 0"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file} is sound: {said}\n", "")


def test_a_soul_that_says_nothing_is_sound_too(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("You.\n")
    assert run("soul", "check", "x.md", cwd=tmp_path).stdout == "x.md is sound\n"


def test_scripts_get_json() -> None:
    told = json.loads(run("soul", "check", "--json", str(SOULS / "librarian.md")).stdout)
    assert (told["file"], told["name"], told["runner"]) == (str(SOULS / "librarian.md"), "librarian", "command")
    assert told["command"] == [str(SOULS / "librarian.py")]
    assert told["limits"]["memory_max"] == 512 * 2**20


def test_a_soul_that_is_none_ends_with_2_and_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.md"
    for text, said in (("---\nnmae: x\n---\nYou.\n", f"{file}: unknown key nmae; known are name, "), (None, f"no soul at {file}; give")):
        file.unlink(missing_ok=True)
        if text:
            file.write_text(text)
        done = run("soul", "check", str(file))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"colony-agent: {said}")
        assert done.stderr.count("\n") == 1
