"""Dreams as real processes, in the real sandbox, with git and a small program that dreams."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from colony import schema
from colony_agent import settings
from colony_agent.dream import Refused, accept, dream
from colony_agent.lock import the_only_process
from colony_agent.runner import Answer, Task
from colony_agent.turn import nothing
from tests.colony_agent.agents import NOTHING, Agent, House, wait_for
from tests.colony_agent.cast import scout_at, turn_of
from tests.colony_agent.crashes import crashes

OLD = "# Memory\nann likes tea [pinned]\nthe lamp is broken\n"
NEW = "# Memory\nann likes tea [pinned]\n"
DREAMS = "echo run >> runs; cat > said.json; printf '<memory>\\n{}</memory>\\n'"
LIMIT = 1024
FAILED = 10


@pytest.fixture
def scout(house: House, tmp_path: Path) -> Agent:
    scout = house.agent(tmp_path, dreaming(NEW), memory_max_bytes=LIMIT)
    memory(scout).write_text(OLD)
    return scout


class Dreamer:
    """A runner that needs no process."""

    def run(self, task: Task, progress: Callable[[str], None]) -> Answer:
        return Answer(f"<memory>\n{NEW}</memory>", schema.Usage())

    def stop(self) -> None:
        pass


def dreaming(text: str) -> str:
    """A brain that dreams this memory."""
    return DREAMS.format(text.replace("\n", "\\n"))


def memory(scout: Agent) -> Path:
    return scout.home / "memory" / "memory.md"


def kept(scout: Agent) -> list[str]:
    """The older memories, oldest first."""
    return [path.read_text() for path in sorted((scout.home / "memory" / "dreams").iterdir())]


def git(scout: Agent, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(scout.home), *words], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout


def last(scout: Agent) -> tuple[str, str, str]:
    turn = scout.turns()[0]
    return turn.kind, turn.state, turn.error or ""


def test_a_dream_swaps_the_memory_keeps_the_old_one_and_commits(scout: Agent) -> None:
    (scout.home / "memory" / "diary" / "monday.md").write_text("rain\n")
    done = scout.run("dream")
    assert done.returncode == 0, done.stderr
    assert memory(scout).read_text() == NEW
    assert kept(scout) == [OLD]
    assert git(scout, "log", "--format=%s by %an").startswith("Dream of 20")
    assert f"by {scout.name}" in git(scout, "log", "--format=%s by %an")
    assert git(scout, "show", "HEAD:memory/memory.md") == NEW
    tracked = set(git(scout, "ls-files").split())
    assert {"CLAUDE.md", "heartbeat.md", "memory/memory.md", "memory/diary/monday.md", ".claude/rules/colony.md"} <= tracked
    assert not [name for name in tracked if ".colony" in name]
    assert last(scout) == ("dream", "finished", "")
    assert scout.said() == []


def test_each_dream_that_changes_something_is_a_commit(scout: Agent) -> None:
    assert scout.run("dream").returncode == 0
    assert scout.run("dream").returncode == 0
    assert len(git(scout, "log", "--format=%h").split()) == 1
    (scout.home / "CLAUDE.md").write_text("You are another scout.\n")
    assert scout.run("dream").returncode == 0
    assert len(git(scout, "log", "--format=%h").split()) == 2
    assert kept(scout) == [OLD]


def test_the_dreamer_is_told_its_memory_and_its_bound(scout: Agent) -> None:
    assert scout.run("dream").returncode == 0
    told = json.loads((scout.home / "said.json").read_text())
    assert OLD.strip() in told["prompt"]
    assert f"{LIMIT} bytes" in told["prompt"]
    assert told["turn"]["kind"] == "dream"


@pytest.mark.parametrize(
    ("brain", "reason"),
    [
        ("printf '<memory>\\n \\n</memory>'", "it is empty"),
        (":", "it is empty"),
        ("echo 'the lamp is mended'", "lost 1 pinned"),
        (dreaming("ann likes tea [pinned] and cake\n"), "lost 1 pinned"),
        ("echo 'ann likes tea [pinned]'; head -c 2000 /dev/zero | tr '\\0' x", f"{LIMIT} are allowed"),
        ("printf '<memory>\\nann likes tea [pinned]\\nand'", "cut off"),
        ("echo no >&2; exit 3", "no"),
        ("head -c 200000 /dev/zero | tr '\\0' x", f"{LIMIT} are allowed"),
    ],
)
def test_a_memory_that_would_lose_something_is_refused(scout: Agent, brain: str, reason: str) -> None:
    scout.settle(brain, memory_max_bytes=LIMIT)
    assert scout.run("dream").returncode == FAILED
    assert memory(scout).read_text() == OLD
    assert kept(scout) == []
    kind, state, error = last(scout)
    assert (kind, state) == ("dream", "failed")
    assert reason in error
    assert scout.messages() == []
    scout.settle(dreaming(NEW), memory_max_bytes=LIMIT)
    assert scout.run("dream").returncode == 0
    assert memory(scout).read_text() == NEW


def test_nothing_to_say_leaves_the_memory_alone(scout: Agent) -> None:
    scout.settle("echo HEARTBEAT_OK", memory_max_bytes=LIMIT)
    assert scout.run("dream").returncode == 0
    assert (memory(scout).read_text(), kept(scout)) == (OLD, [])


def test_a_dream_that_comes_by_itself_wants_something_new(scout: Agent) -> None:
    assert scout.run("dream", "--if-new").returncode == 0
    assert scout.run("dream", "--if-new").returncode == NOTHING
    (scout.home / "memory" / "diary" / "today.md").write_text("bob came\n")
    assert scout.run("dream", "--if-new").returncode == 0
    assert scout.run("dream", "--if-new").returncode == NOTHING
    assert scout.run("dream").returncode == 0
    (scout.home / "memory" / "memory.md").write_text("ann likes tea [pinned]\nand now cake\n")
    assert scout.run("dream", "--if-new").returncode == 0


def test_who_has_nothing_to_remember_dreams_of_nothing(scout: Agent) -> None:
    (scout.home / "memory" / "memory.md").write_text("\n")
    assert scout.run("dream", "--if-new").returncode == NOTHING


def test_old_dreams_are_pruned(scout: Agent) -> None:
    scout.settle("printf 'ann likes tea [pinned]\\n'; wc -l < runs; echo run >> runs", memory_max_bytes=LIMIT, dreams_kept=2)
    (scout.home / "runs").touch()
    for name in ("2001-01-01T000000Z.md", "2002-01-01T000000Z.md", "2003-01-01T000000Z.md"):
        (scout.home / "memory" / "dreams" / name).write_text(name)
    assert scout.run("dream").returncode == 0
    assert kept(scout) == ["2003-01-01T000000Z.md", OLD]


def test_what_the_dreamer_does_to_the_file_itself_does_not_count(scout: Agent) -> None:
    for brain, code in ((f"echo mine > memory/memory.md; {dreaming(NEW)}", 0), ("rm memory/memory.md; exit 3", FAILED)):
        memory(scout).write_text(OLD)
        scout.settle(brain, memory_max_bytes=LIMIT)
        done = scout.run("dream")
        assert done.returncode == code
        assert "put back" in done.stderr
        assert memory(scout).read_text() == (NEW if code == 0 else OLD)
    scout.settle("echo mine > memory/memory.md; echo HEARTBEAT_OK", memory_max_bytes=LIMIT)
    assert scout.run("dream").returncode == 0
    assert memory(scout).read_text() == OLD


def test_a_dream_that_fails_says_so_in_its_log_its_exit_code_and_its_turn(scout: Agent) -> None:
    scout.settle(dreaming(""), memory_max_bytes=LIMIT)
    done = scout.run("dream")
    assert done.returncode == FAILED
    assert "turn failed" in done.stderr
    assert "the dream's memory was refused: it is empty" in done.stderr
    assert last(scout) == ("dream", "failed", "the dream's memory was refused: it is empty")
    assert scout.turns()[0].error_code == "crashed"


def test_a_crash_anywhere_leaves_the_old_or_the_new_memory_whole(tmp_path: Path) -> None:
    home = scout_at(tmp_path / "scout", memory_max_bytes=LIMIT)
    file = home.path / "memory" / "memory.md"
    file.parent.mkdir()
    file.write_text(OLD)
    seen: list[str] = []
    for _ in crashes(lambda: dream(home, turn_of(kind="dream"), Dreamer())):
        now, old = file.read_text(), [path.read_text() for path in file.parent.glob("dreams/*.md")]
        assert now == OLD or (now, old) == (NEW, [OLD])
        seen.append(now)
        if seen.count(NEW) == 5:  # what follows is only git's
            break
        shutil.rmtree(file.parent)  # with what was half written
        file.parent.mkdir()
        file.write_text(OLD)
    assert set(seen) == {OLD, NEW}


def test_an_overgrown_memory_is_shown_whole(scout: Agent) -> None:
    memory(scout).write_text(OLD + "x" * 5000 + "\nthe end\n")
    assert scout.run("dream").returncode == 0
    assert "the end" in json.loads((scout.home / "said.json").read_text())["prompt"]
    assert memory(scout).read_text() == NEW
    assert len(kept(scout)[0]) > 5000


@pytest.mark.parametrize("at", ["memory/memory.md", "memory/dreams", "memory"])
def test_a_link_in_its_place_is_not_followed(scout: Agent, tmp_path: Path, at: str) -> None:
    outside = tmp_path / "outside"
    (outside / "dreams").mkdir(parents=True)
    (outside / "memory.md").write_text("the host's\n")
    path = scout.home / at
    path.rename(path.with_name("moved"))
    path.symlink_to(outside / "memory.md" if at.endswith(".md") else outside)
    assert scout.run("dream").returncode == FAILED
    assert (outside / "memory.md").read_text() == "the host's\n"
    assert sorted(each.name for each in outside.rglob("*")) == ["dreams", "memory.md"]
    assert last(scout)[1] == "failed"


def test_what_an_agent_has_hooked_to_git_does_not_run(scout: Agent) -> None:
    assert scout.run("dream").returncode == 0
    spy = scout.home / "spy"
    spy.write_text(f"#!/bin/sh\ntouch {scout.home}/ran\n")
    spy.chmod(0o755)
    for hooks in (scout.home / ".git" / "hooks", scout.home / "hooks"):
        hooks.mkdir(exist_ok=True)
        for name in ("pre-commit", "post-commit", "post-index-change"):
            (hooks / name).write_text(spy.read_text())
            (hooks / name).chmod(0o755)
    (scout.home / ".gitconfig").write_text(f"[core]\nhooksPath = {scout.home}/hooks\nfsmonitor = {spy}\n")
    (scout.home / "CLAUDE.md").write_text("You are another scout.\n")
    assert scout.run("dream").returncode == 0
    assert not (scout.home / "ran").exists()
    shown = subprocess.run(["git", "-C", scout.home, "show", "HEAD:CLAUDE.md"], capture_output=True, text=True, env={"HOME": "/"})
    assert shown.stdout == "You are another scout.\n", "it is recorded all the same"


PLANTED = r"""
cd memory
if [ ! -d .git ]; then
    git init -q .
    printf '* filter=own\n' > .gitattributes
    printf '#!/bin/sh\ntouch "$HOME/ran"; cat\n' > ../own.sh
    chmod +x ../own.sh
    git add . && git -c user.name=x -c user.email=x@example.org commit -qm x
    git config filter.own.clean "$HOME/own.sh"
fi
touch memory.md .gitattributes
cd ..
printf '<memory>\nof %s\n</memory>' "$(date +%N)"
"""


def test_a_repository_within_the_memory_is_not_obeyed(house: House, tmp_path: Path) -> None:
    """Git, asked to add what lies there, takes it for a submodule and runs its filters: where the history is writable."""
    scout = house.agent(tmp_path, PLANTED)
    for _ in range(3):
        done = scout.run("dream")
        assert done.returncode == 0, done.stderr
        subprocess.run(["git", "-C", scout.home / "memory", "status"], capture_output=True, check=True, env={"HOME": str(scout.home)})
        assert (scout.home / "ran").exists(), "else this shows nothing"
        (scout.home / "ran").unlink()
        scout.run("dream")
        assert not (scout.home / "ran").exists()
    assert "memory/memory.md" in git(scout, "ls-tree", "-r", "--name-only", "HEAD").split()
    assert ".git/" not in git(scout, "ls-tree", "-r", "--name-only", "HEAD")


def test_odd_names_are_recorded_as_they_are(scout: Agent) -> None:
    names = ['a "quoted" \\ one', "of two\nlines", "ümlaut", "-m", "with\ttab"]
    for name in names:
        (scout.home / "memory" / name).write_text(name)
    for _ in range(2):
        assert scout.run("dream").returncode == 0
    listed = git(scout, "-c", "core.quotePath=false", "ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")
    assert {f"memory/{name}" for name in names} <= set(listed)
    assert git(scout, "status", "--short", "--", "memory").strip() == ""


def test_a_repository_that_refuses_costs_only_the_history(scout: Agent) -> None:
    (scout.home / ".git").mkdir()
    (scout.home / ".git" / "index.lock").touch()
    assert scout.run("dream").returncode == 0
    assert memory(scout).read_text() == NEW
    assert last(scout)[1] == "finished"


def test_a_repository_that_is_none_costs_only_the_history(scout: Agent) -> None:
    (scout.home / ".git").write_text("gitdir: /nonexistent\n")
    done = scout.run("dream")
    assert done.returncode == 0
    assert "home not committed agent=" in done.stderr
    assert memory(scout).read_text() == NEW


def test_a_dream_and_a_turn_never_run_beside_each_other(scout: Agent) -> None:
    scout.settle(f"echo begins >> order; while [ ! -e go ]; do sleep 0.02; done; echo ends >> order; {dreaming(NEW)}")
    with scout.begin("dream") as dream, scout.worker() as worker:
        wait_for(lambda: (scout.home / "order").exists(), "dream")
        worker.await_log("status=healthy")
        scout.ask()
        assert scout.turn().returncode == 75
        time.sleep(1)
        assert (scout.home / "order").read_text() == "begins\n"
        (scout.home / "go").touch()
        assert dream.wait() == 0
        scout.await_said()
    assert (scout.home / "order").read_text() == "begins\nends\n" * 2
    assert {turn.kind for turn in scout.turns()} == {"dream", "answer"}
    assert [turn.failures for turn in scout.turns()] == [0, 0]


def test_a_paused_agent_does_not_dream(scout: Agent) -> None:
    scout.set_status("paused")
    assert scout.run("dream").returncode == 75
    assert scout.turns() == []


def test_who_does_not_dream_tells_its_service_why(scout: Agent, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)

        def why(*options: str) -> str:
            assert scout.run("dream", *options, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}).returncode == NOTHING
            return systemd.recv(4096).decode()

        memory(scout).write_text("")
        assert why("--if-new") == "STATUS=there is nothing to dream of yet"
        memory(scout).write_text(OLD)
        assert scout.run("dream").returncode == 0
        assert why("--if-new") == "STATUS=nothing is new since the last dream"
        scout.set_status("paused")
        assert why() == f"STATUS={scout.name} is paused"
        with the_only_process(settings.load(scout.home)):
            assert why() == "STATUS=a turn or a dream of it runs"
        assert scout.turn(env={"NOTIFY_SOCKET": str(tmp_path / "notify")}).returncode == NOTHING
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)  # a turn is a worker's child, to whom systemd does not listen


def test_what_keeps_it_from_dreaming_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        nothing("dream", "the API said:\nMAINPID=1")
        assert systemd.recv(4096) == b"STATUS=the API said: MAINPID=1"


# Which memory is accepted


@pytest.mark.parametrize(
    ("reply", "old", "new"),
    [
        ("<memory>\na\n</memory>", "b\n", "a\n"),
        ("Here it is:\n<memory>\na\n</memory>\nGood night.", "", "a\n"),
        ("a", "", "a\n"),
        ("", "", ""),
        (" \n", "\n", ""),
        ("HEARTBEAT_OK\n", "b\n", "b\n"),
        ("<memory>talks of </memory> too</memory>", "", "talks of </memory> too\n"),
        ("a\0b", "", "ab\n"),
        ("  c [pinned]", "c [pinned]  \nd", "c [pinned]\n"),
        ("x" * 99, "", "x" * 99 + "\n"),
        ("é" * 49, "", "é" * 49 + "\n"),
    ],
)
def test_what_is_accepted(reply: str, old: str, new: str) -> None:
    assert accept(reply, old, 100) == new


@pytest.mark.parametrize(
    ("reply", "old"),
    [("", "b"), ("<memory></memory>", "b"), ("x" * 100, ""), ("é" * 50, ""), ("a", "b [pinned]"), ("a\n<memory>\nb", "")],
)
def test_what_is_refused(reply: str, old: str) -> None:
    with pytest.raises(Refused, match=r"."):
        accept(reply, old, 100)
