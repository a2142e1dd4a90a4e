"""`colony prove` as people start it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from colony.failpoints import POINTS
from prove import report
from prove.history import Verdict
from prove.plan import Options
from prove.run import Proof

COLONY = str(Path(sys.executable).with_name("colony"))
HELD = Proof(Options(), Path("/nowhere"), "bwrap", {"failpoint": 60, "turn": 40}, 4, [], 700, 200, Verdict(answered=500, given_up=2), 99.5)
BROKEN = replace(HELD, missed=["turn.claimed"], verdict=Verdict(lost=[f"message {number}" for number in range(30)]))


def prove(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COLONY, "prove", *options], capture_output=True, text=True, timeout=90, check=False)


def test_it_explains_itself() -> None:
    shown = prove("--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("Usage: colony prove ")
    for option in ("--kills", "--seed", "--agents", "--apes", "--messages", "--database", "--json"):
        assert option in shown.stdout


def test_a_wrong_option_is_refused_in_words() -> None:
    shown = prove("--kills", "none")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "--kills" in shown.stderr


def test_a_database_that_is_not_there_is_one_line_and_leaves_no_folder() -> None:
    shown = prove("--database", "postgresql://nobody@127.0.0.1:1/nowhere")
    assert shown.returncode == 8
    told, reason = shown.stderr.splitlines()
    assert reason.startswith("colony prove: the server does not start: ")
    assert "database" in reason
    assert not Path(told.partition(" in ")[2].partition(";")[0]).exists()


def test_a_colony_that_lives_is_left_alone(database_url: str) -> None:
    shown = prove("--database", database_url)
    assert shown.returncode == 5
    assert shown.stderr.splitlines()[-1] == ("colony prove: this database holds a colony already; a proof needs an empty one of its own")


def test_the_table_shows_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    report.table(HELD)
    shown = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert shown["kills"] == "100"
    assert shown["failpoints hit"] == f"{len(POINTS)} of {len(POINTS)}"
    assert [shown[kind] for kind in ("lost", "twice", "unknown", "phantom", "gaps")] == ["0"] * 5
    assert (shown["seed"], shown["given up, with a notice"]) == ("1", "2")


def test_the_table_names_the_evidence_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    report.table(BROKEN)
    shown = capsys.readouterr().out.splitlines()
    assert "lost: message 0" in shown
    assert "lost: and 10 more" in shown
    assert shown[-2:] == ["never hit: turn.claimed", "everything is kept in /nowhere"]


@pytest.mark.parametrize("proof", [HELD, BROKEN])
def test_a_program_reads_the_same(proof: Proof, capsys: pytest.CaptureFixture[str]) -> None:
    report.document(proof)
    shown = json.loads(capsys.readouterr().out)
    assert shown["holds"] == (proof is HELD)
    assert shown["kills"] == 100
    assert len(shown["evidence"]["lost"]) == len(proof.verdict.lost)
    assert shown["folder"] == (None if proof is HELD else "/nowhere")
