"""What tells an agent how to live, in real sandboxes: read by it and by git, and never changed from inside."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from colony.bounds import SandboxKind
from colony.failures import CRASHED
from colony_agent import repository
from colony_agent.runner import RunnerFailed
from colony_agent.runner.claude import BOUNDS
from colony_agent.sandbox import for_home, instructions
from colony_agent.settings import Home
from tests.colony_agent.cast import scout_at
from tests.colony_agent.engines import ENGINES
from tests.colony_agent.test_sandbox import inside
from tests.standin import Standin, text
from tests.standin.claude import claude_binary, run_claude

TEXT = "as the operator wrote it\n"
FILES = (
    *("CLAUDE.md", "CLAUDE.local.md", "AGENTS.md", ".mcp.json"),
    *(".claude/rules/colony.md", ".claude/settings.json", ".claude/CLAUDE.md"),
    *(".git/config", ".git/hooks/pre-commit"),
)
MISSING = (
    *(".claude/settings.local.json", ".claude/skills/evil/SKILL.md"),
    *(".git/hooks/post-commit", ".git/commondir", ".git/config.worktree"),
)
EXCHANGE = "import ctypes, os, sys; ctypes.CDLL(None).renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]), 2)"
ATTACKS = (
    "echo evil > {file}",
    "echo evil >> {file}",
    "rm -rf {file}; echo evil > {file}",
    "echo evil > new; mv -f new {file}",
    "mv {file} away; echo evil > {file}",
    "ln -f {file} link && echo evil > link",
    "rm -f {file}; echo evil > other; ln -sf $PWD/other {file}",
    "chmod 777 {file}; chmod 777 $(dirname {file}); echo evil > {file}",
    "truncate -s 0 {file}",
    "mv {top} old; mkdir -p $(dirname {file}); echo evil > {file}",
    "rm -rf {top}; mkdir -p elsewhere; ln -s elsewhere {top}; mkdir -p $(dirname {file}); echo evil > {file}",
    "mkdir evil; echo evil > evil.txt; for e in evil evil.txt; do /usr/bin/python3 -c '{exchange}' $e {top}; done",
    "cd ..; mv scout elsewhere; mkdir -p $(dirname scout/{file}); echo evil > scout/{file}",
    "cd .claude/projects; echo evil > ../../{file}",
    "cd /proc/self/cwd; echo evil > {file}; cd /proc/1/root/$HOME; echo evil > {file}",
    "unshare -Urm sh -c 'umount {top}; umount -l {top}; echo evil > {file}'",
    "unshare -Urm sh -c 'mkdir -p /tmp/home; mount --bind . /tmp/home; echo evil > /tmp/home/{file}'",
    "unshare -Urm sh -c 'mount -o remount,rw,bind {top}; echo evil > {file}'",
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = scout_at(tmp_path / "scout")
    subprocess.run(["git", "init", "--quiet", home.path], check=True)
    for name in FILES:
        (home.path / name).parent.mkdir(parents=True, exist_ok=True)
        (home.path / name).write_text(TEXT if name != ".git/config" else (home.path / name).read_text())
    return home


def everything(home: Home) -> dict[str, bytes]:
    """All that instructs, with its contents."""
    roots = [home.path / name for name in ("CLAUDE.md", "CLAUDE.local.md", "AGENTS.md", ".mcp.json", ".claude", ".git")]
    files = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file() and "projects" not in path.parts]
    return {str(path.relative_to(home.path)): path.read_bytes() for path in files}


def require_unharmed(home: Home, before: dict[str, bytes]) -> None:
    assert everything(home) == before
    assert not (home.path / ".claude").is_symlink()
    assert not (home.path / ".git").is_symlink()


@pytest.mark.parametrize("file", FILES)
def test_an_instruction_can_be_read(home: Home, file: str) -> None:
    assert inside(for_home(home), f"cat {file}") == (home.path / file).read_text().strip()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("file", [*FILES, *MISSING])
def test_an_instruction_holds_against(home: Home, file: str, attack: str) -> None:
    before = everything(home)
    inside(for_home(home), attack.format(file=file, top=file.split("/")[0], exchange=EXCHANGE))
    require_unharmed(home, before)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("file", [*FILES, *MISSING])
def test_an_instruction_holds_against_all_of_it_in_a_row(home: Home, file: str, engine: SandboxKind) -> None:
    home = replace(home, agent=replace(home.agent, sandbox=engine))
    before = everything(home)
    attacks = "\n".join(f"({attack.format(file=file, top=file.split('/')[0], exchange=EXCHANGE)})" for attack in ATTACKS)
    inside(for_home(home), attacks)
    require_unharmed(home, before)


@pytest.mark.parametrize("file", [*FILES, *MISSING])
def test_in_a_bare_home_none_can_be_made(tmp_path: Path, file: str) -> None:
    home = scout_at(tmp_path / "bare")
    inside(for_home(home), "true")
    before = everything(home)
    assert set(before) == {"CLAUDE.md", "CLAUDE.local.md", "AGENTS.md", ".mcp.json"}
    inside(for_home(home), f"mkdir -p $(dirname {file}); echo evil > {file}; git init; git config core.hooksPath evil")
    require_unharmed(home, before)


def test_what_stays_open_lets_sessions_be_kept_and_the_home_be_used(home: Home) -> None:
    assert inside(for_home(home), "echo hi > .claude/projects/x.jsonl && echo hi > memory.md && echo ok") == "ok"
    assert (home.path / ".claude/projects/x.jsonl").read_text() == "hi\n"


@pytest.mark.parametrize("name", ["CLAUDE.md", ".mcp.json", ".claude", ".claude/projects", ".git"])
def test_a_link_in_the_place_of_one_is_refused(tmp_path: Path, name: str) -> None:
    home = scout_at(tmp_path / "scout")
    (home.path / "elsewhere").mkdir()
    (home.path / name).parent.mkdir(exist_ok=True)
    (home.path / name).symlink_to(home.path / "elsewhere")
    with pytest.raises(RunnerFailed, match=rf"can't cover .*{name} in the sandbox: it is a link") as failed:
        for_home(home).confine(["/bin/true"], {})
    assert failed.value.failure is CRASHED


ODD = ("printf evil > {}", "mkdir {}", "mkfifo {}", "ln -s CLAUDE.md {}", "ln -s /nonexistent {}", "true {}")
CHANGED = "exec 2> /dev/null; cat {}; echo evil > {} || mv CLAUDE.md {} || rm {}; cat {}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("there", ODD)
def test_what_claude_code_finds_of_itself_is_made_up(tmp_path: Path, engine: str, there: str) -> None:
    home = scout_at(tmp_path / "scout", sandbox=engine)
    subprocess.run(["sh", "-c", there.replace("{}", ".claude.json")], cwd=home.path, check=True)
    made_up = instructions.config("scout").strip()
    for _ in range(2):
        assert inside(for_home(home), CHANGED.replace("{}", ".claude.json")) == f"{made_up}\n{made_up}"


def test_claude_code_as_it_is_pinned_has_nothing_to_add_to_it(tmp_path: Path) -> None:
    file = tmp_path / instructions.CONFIG
    file.write_text(instructions.config("scout"))
    before = file.stat()
    with Standin() as api:
        api.script(lambda request: text("Here I am."))
        assert run_claude(claude_binary(), api, tmp_path, "hello", **BOUNDS).result["result"] == "Here I am."
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_replaced_in_a_folder_meanwhile_stays_covered(home: Home) -> None:
    """As an upgrade does with the rules, while a turn runs."""
    rules = home.path / ".claude/rules/colony.md"
    script = "echo > ready; while [ ! -e go ]; do sleep 0.02; done; cat .claude/rules/colony.md; echo evil > .claude/rules/colony.md"
    outside = f"until [ -e {home.path}/ready ]; do sleep 0.02; done; echo new > {rules}.new; mv {rules}.new {rules}; touch {home.path}/go"
    with subprocess.Popen(["sh", "-c", outside]):
        said = inside(for_home(home), script)
    assert said.startswith("new\n")
    assert "Read-only" in said
    assert rules.read_text() == "new\n"


def test_git_itself_may_write_the_history_and_nothing_else(home: Home) -> None:
    (home.path / ".git/hooks/pre-commit").unlink()
    repository.commit(home, "first")
    assert repository.git(home, "log", "--format=%s")[1] == b"first\n"
    assert "Read-only" in inside(for_home(home, keeps_history=True), "echo evil > CLAUDE.md")


def test_an_agent_that_may_write_its_instructions_does(home: Home) -> None:
    home = replace(home, agent=replace(home.agent, may_write_instructions=True))
    assert inside(for_home(home), "echo mine > CLAUDE.md; echo mine > .claude/rules/own.md; git config user.name scout; echo ok") == "ok"
    assert (home.path / "CLAUDE.md").read_text() == (home.path / ".claude/rules/own.md").read_text() == "mine\n"
