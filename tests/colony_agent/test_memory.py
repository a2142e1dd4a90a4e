"""An agent's memory over time: its commits, what changed, and the way back, with real git in the real sandbox."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from colony import errors
from colony_agent import memory, repository
from colony_agent.lock import the_only_process
from colony_agent.settings import Home
from tests.colony_agent.cast import scout_at

FIRST, SECOND, THIRD = "# Memory\nann likes tea\n", "# Memory\nann likes coffee\n", "# Memory\nann likes nothing\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose memory was committed twice, and has changed since."""
    home = scout_at(tmp_path / "scout", memory_max_bytes=1024)
    (home.path / "memory").mkdir()
    for text, subject in ((FIRST, "Dream one"), (SECOND, "Dream two")):
        file(home).write_text(text)
        repository.commit(home, subject)
    (home.path / "CLAUDE.md").write_text("You are a scout.\n")
    repository.commit(home, "not of the memory")
    file(home).write_text(THIRD)
    return home


def file(home: Home) -> Path:
    return home.path / "memory" / "memory.md"


def git(home: Home, *words: str) -> str:
    argv = ["git", "-c", "safe.directory=*", "-c", "user.name=scout", "-c", "user.email=scout@colony.invalid", "-C", str(home.path), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout


def kept(home: Home) -> list[str]:
    return [path.read_text() for path in sorted((home.path / "memory" / "dreams").glob("*"))]


def test_the_log_tells_what_changed_the_memory_newest_first(home: Home) -> None:
    told = memory.log(home)
    assert [commit.subject for commit in told] == ["Dream two", "Dream one"]
    assert told[0].id == git(home, "rev-parse", "HEAD~1").strip()
    assert all(abs(datetime.now(UTC) - commit.at) < timedelta(hours=1) for commit in told)


def test_the_diff_is_from_a_revision_to_now(home: Home) -> None:
    for revisions in ((), ("HEAD",), ("HEAD~1",), (memory.log(home)[0].id[:8],)):
        assert memory.diff(home, *revisions).splitlines()[-3:] == [" # Memory", "-ann likes coffee", "+ann likes nothing"]
    assert "-ann likes tea\n" in memory.diff(home, memory.log(home)[1].id)
    file(home).write_text(SECOND)
    assert memory.diff(home) == ""


def test_a_revert_brings_the_old_memory_back_keeps_the_present_one_and_is_committed(home: Home) -> None:
    first = memory.log(home)[-1].id
    memory.revert(home, first)
    assert (file(home).read_text(), kept(home)) == (FIRST, [THIRD])
    assert memory.log(home)[0].subject == f"Memory as it was at {first[:12]}"
    assert git(home, "show", "HEAD:memory/memory.md") == FIRST
    memory.revert(home, "HEAD~1")
    assert (file(home).read_text(), kept(home)) == (SECOND, [THIRD, FIRST]), "what one revert kept, the next within a second keeps, too"


def test_a_revert_keeps_the_bound(home: Home) -> None:
    file(home).write_text("line of many\n" * 1000)
    repository.commit(home, "too large")
    memory.revert(home, "HEAD")
    assert file(home).stat().st_size <= 1024
    assert next((home.path / "memory" / "diary").glob("overflow-*")).read_text().count("line of many") > 900


def test_nothing_is_reverted_during_a_turn(home: Home) -> None:
    with the_only_process(home) as is_alone:
        assert is_alone
        with pytest.raises(errors.Conflict, match=r"^scout is in a turn; wait for its end, or pause it, and try again$"):
            memory.revert(home, "HEAD")
    assert (file(home).read_text(), kept(home)) == (THIRD, [])


@pytest.mark.parametrize(
    "revision", ["", "--help", "-p", "main", "HEAD^{/x}", "HEAD~", "HEAD~1000000", "ABCD", "abc", "HEAD:x", "a" * 41, "abcd\n"]
)
def test_what_is_no_revision_is_refused(home: Home, revision: str) -> None:
    for act in (memory.diff, memory.revert):
        with pytest.raises(errors.Invalid, match="is no revision; give a commit as `log` shows it, HEAD, or HEAD~N"):
            act(home, revision)


@pytest.mark.parametrize("revision", ["HEAD~999", "deadbeef"])
def test_a_revision_that_is_not_there_is_one_clear_line(home: Home, revision: str) -> None:
    for act in (memory.diff, memory.revert):
        with pytest.raises(errors.NotFound, match=f"^{home.path} has no such history: git says fatal: .+$"):
            act(home, revision)
    assert (file(home).read_text(), kept(home)) == (THIRD, [])


def test_a_revision_without_a_memory_is_one_clear_line(home: Home) -> None:
    git(home, "rm", "--quiet", "--cached", "memory/memory.md")
    git(home, "commit", "--quiet", "--message", "forgotten")
    with pytest.raises(errors.NotFound, match="no such history"):
        memory.revert(home, "HEAD")
    assert file(home).read_text() == THIRD


def test_a_home_without_a_history_says_so(tmp_path: Path) -> None:
    home = scout_at(tmp_path / "scout")
    for act in (lambda: memory.log(home), lambda: memory.diff(home), lambda: memory.revert(home, "HEAD")):
        with pytest.raises(errors.NotFound, match="has no history yet; the agent's first dream begins it"):
            act()


def test_something_odd_in_the_place_of_the_memory_stays_and_is_named(home: Home) -> None:
    file(home).unlink()
    file(home).symlink_to("../CLAUDE.md")
    with pytest.raises(errors.Conflict, match="stays as it is, since it can't be kept"):
        memory.revert(home, "HEAD")
    assert (home.path / "CLAUDE.md").read_text() == "You are a scout.\n"
    assert file(home).is_symlink()


# What the agent has done to its repository


def test_what_the_agent_wrote_can_not_steer_a_terminal(home: Home) -> None:
    file(home).write_text("\x1b[2J\x9b31m nothing to see\r\n")
    assert "+\\x1b[2J\\x9b31m nothing to see" in memory.diff(home)
    git(home, "commit", "--quiet", "--all", "--message", "\x1b]0;owned\a Dream\rof nothing")
    assert memory.log(home)[0].subject == "\\x1b]0;owned\\x07 Dream\\rof nothing"


def filtered(home: Home, program: str) -> None:
    """Git passes each text that it looks at through this; hooks it does not run."""
    git(home, "config", "filter.spy.clean", program)
    (home.path / ".gitattributes").write_text("*.md filter=spy\n")


def test_none_of_its_programs_runs(home: Home) -> None:
    spy = home.path / "spy.sh"
    spy.write_text(f"#!/bin/sh\necho ran >> {home.path}/looked\n")
    spy.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "core.pager", "gpg.program", "core.hooksPath"):
        git(home, "config", key, str(home.path if key == "core.hooksPath" else spy))
    filtered(home, f"{spy}; cat")
    (home.path / "post-commit").symlink_to("spy.sh")
    git(home, "config", "log.showSignature", "true")
    memory.log(home)
    assert "-ann likes coffee" in memory.diff(home)
    memory.revert(home, "HEAD~2")
    assert file(home).read_text() == FIRST
    assert not (home.path / "looked").exists()
    git(home, "add", "memory")
    assert (home.path / "looked").exists(), "else this shows nothing"


def test_a_git_that_takes_too_long_ends_in_one_clear_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "GIT_SECONDS", 0)
    with pytest.raises(errors.Unavailable, match=f"^git in {home.path}: it took longer than 0 s$"):
        memory.diff(home)
