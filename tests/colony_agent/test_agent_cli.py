"""`colony-agent` on the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from colony_agent import entry
from tests.colony_agent.agents import BIN, Agent, wait_for

COMMANDS = ("worker", "turn", "dream")


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **(options.pop("env", None) or {})}  # type: ignore[dict-item]
    return subprocess.run([BIN / "colony-agent", *words], capture_output=True, text=True, timeout=30, env=env, **options)  # type: ignore[call-overload, no-any-return]


def test_help_names_the_commands() -> None:
    told = run("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in told


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_an_agent_is_one_clear_line(tmp_path: Path, command: str) -> None:
    done = run(command, "--home", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"colony-agent: no agent lives in {tmp_path}: it has no .colony.toml\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_setting_is_named_with_its_file(scout: Agent, command: str) -> None:
    scout.settle(lease_seconds=4)
    done = run(command, "--home", str(scout.home))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(scout.home / ".colony.toml") in done.stderr
    assert "agent.lease_seconds" in done.stderr


def test_home_is_where_the_service_says(scout: Agent) -> None:
    scout.ask()
    assert run("turn", env={"HOME": str(scout.home)}).returncode == 0
    assert scout.said() == ["answered"]


def test_home_may_be_relative(scout: Agent) -> None:
    scout.ask()
    assert run("turn", "--home", scout.home.name, cwd=scout.home.parent).returncode == 0
    assert scout.said() == ["answered"]


def test_a_turn_whose_worker_is_gone_does_not_begin(scout: Agent) -> None:
    scout.ask()
    assert subprocess.run([*entry.turn_argv(scout.home), "--parent", "1"], timeout=60).returncode == 75
    assert scout.turns() == []


def test_a_workers_turn_ends_with_one_clear_line_where_no_agent_lives(tmp_path: Path) -> None:
    argv = [*entry.turn_argv(tmp_path), "--parent", str(os.getpid())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"colony-agent: no agent lives in {tmp_path}: it has no .colony.toml\n")


def test_a_workers_turn_imports_nothing_from_the_folder_it_runs_in(scout: Agent) -> None:
    (scout.home / "colony_agent").mkdir()
    (scout.home / "colony_agent" / "__init__.py").write_text("raise SystemExit('not this one')")
    scout.ask()
    argv = [*entry.turn_argv(scout.home), "--parent", str(os.getpid())]
    assert subprocess.run(argv, cwd=scout.home, env={**os.environ, "PYTHONPATH": str(scout.home)}, timeout=60).returncode == 0
    assert scout.said() == ["answered"]


def test_a_turn_ends_with_its_worker(scout: Agent) -> None:
    scout.settle("echo run >> runs; sleep 60")
    scout.ask()
    with scout.worker() as worker:
        wait_for(lambda: scout.runs() == 1, "running turn")
        family = worker.family()
        worker.popen.kill()
        worker.wait()
        wait_for(lambda: not any(each.is_running() and each.status() != "zombie" for each in family), "end of the turn")


def test_the_worker_sees_nothing_of_the_environments_python(scout: Agent, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    with scout.worker(env={"PYTHONPATH": str(tmp_path)}, pulse_seconds=0) as worker:
        worker.await_log("status=healthy")


def test_it_runs_from_a_read_only_installation(scout: Agent) -> None:
    """Without the worker's bytecode beside its source, and no way to write it."""
    folder = Path(tempfile.mkdtemp(prefix="colony-read-only-"))
    try:
        package = Path(__file__).parents[2] / "colony_agent"
        shutil.copytree(package, folder / "colony_agent", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "colony_agent" / "__pycache__").write_text("in the way")
        log = scout.home.with_suffix(".log")
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, "-m", "colony_agent", "worker", "--home", str(scout.home)], cwd=folder, stderr=output
            ) as process,
        ):
            wait_for(lambda: "status=healthy" in log.read_text(), "worker", more=log.read_text)
            process.terminate()
            assert process.wait(10) == 0
    finally:
        shutil.rmtree(folder)
