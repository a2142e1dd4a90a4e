"""An agent's home: what is in it from the start."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colony import errors
from colony_agent.settings import MACHINE_FILES, load
from provisioning.home import RULES, prepare, rules_in

CONNECTION = {"url": "unix:/run/colony/api.sock", "token": "secret"}
AGENT = {"name": "scout", "command": ["/bin/sh", 'a "quoted" \\ word', "snow \N{SNOWMAN} \N{FOX FACE}\n"], "pulse_minutes": 5}
FILES = {
    "CLAUDE.md",
    "heartbeat.md",
    "memory/memory.md",
    ".claude/rules/colony.md",
    ".gitignore",
    ".colony.toml",
    ".colony-state.json",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "agents" / "scout"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "origin"
    path.mkdir()
    (path / "README").write_text("hello\n")
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@colony.invalid")
    for words in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "--message", "first")):
        subprocess.run(["git", "-C", str(path), *words], check=True, capture_output=True)
    return path


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def snapshot(home: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(home)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in home.rglob("*")
        if ".git" not in path.parts
    }


def test_it_holds_what_the_design_says(home: Path) -> None:
    prepare(home, "You are a scout.\n", CONNECTION, AGENT)
    assert {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} == FILES
    assert (home / "memory" / "dreams").is_dir()
    assert (home / "memory" / "diary").is_dir()
    assert (home / "CLAUDE.md").read_text() == "You are a scout.\n"
    assert "HEARTBEAT" not in (home / "heartbeat.md").read_text()
    assert (home / ".colony.toml").exists()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_can_look_into_it(home: Path, mask: int) -> None:
    with umask(mask):
        prepare(home, "soul", CONNECTION, AGENT)
    assert home.stat().st_mode & 0o777 == 0o700
    for path in home.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == 0o600, path


def test_the_settings_are_read_as_they_were_given(home: Path) -> None:
    prepare(home, "soul", CONNECTION, AGENT)
    found = load(home)
    assert (found.colony.url, found.colony.token) == (CONNECTION["url"], CONNECTION["token"])
    assert (found.agent.name, found.agent.command, found.agent.pulse_minutes) == ("scout", tuple(AGENT["command"]), 5)  # type: ignore[arg-type]


def test_a_second_time_changes_nothing(home: Path, repository: Path) -> None:
    prepare(home, "soul", CONNECTION, AGENT, str(repository))
    before = snapshot(home)
    prepare(home, "another soul", {"url": "http://elsewhere"}, {"name": "other"}, str(repository))
    assert snapshot(home) == before


def test_its_rules_can_be_read_whatever_lies_in_their_place(home: Path, tmp_path: Path) -> None:
    prepare(home, "soul", CONNECTION, AGENT)
    assert rules_in(home) == RULES
    file = home / ".claude" / "rules" / "colony.md"
    file.unlink()
    assert rules_in(home) == ""
    (tmp_path / "elsewhere").write_text(RULES)
    file.symlink_to(tmp_path / "elsewhere")
    assert rules_in(home) == "", "no link is followed"


def test_what_the_agent_has_made_of_it_stays(home: Path) -> None:
    prepare(home, "soul", CONNECTION, AGENT)
    (home / "memory" / "memory.md").write_text("ann likes tea\n")
    (home / ".colony.toml").unlink()
    prepare(home, "another soul", CONNECTION, AGENT)
    assert (home / "memory" / "memory.md").read_text() == "ann likes tea\n"
    assert (home / "CLAUDE.md").read_text() == "soul"


def test_it_can_be_interrupted_after_every_step_and_begun_again(home: Path, tmp_path: Path, repository: Path) -> None:
    whole = tmp_path / "whole"
    prepare(whole, "soul", CONNECTION, AGENT, str(repository))
    for name in sorted(FILES - {".colony.toml"}):
        part = tmp_path / "part" / name.replace("/", "-")
        prepare(part, "soul", CONNECTION, AGENT, str(repository))
        (part / ".colony.toml").unlink()
        (part / name).unlink()
        assert not (part / ".colony.toml").exists()
        prepare(part, "soul", CONNECTION, AGENT, str(repository))
        assert (part / ".colony.toml").exists()
        assert {name: content for name, (_, content) in snapshot(part).items()} == {
            name: content for name, (_, content) in snapshot(whole).items()
        }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host's, which an agent would like to have written to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text("the host's\n")
    return folder


@pytest.mark.parametrize("name", ["memory", "memory/dreams", "memory/diary", ".claude", ".claude/rules"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
def test_what_an_agent_puts_in_a_folders_way_leads_nowhere(home: Path, outside: Path, name: str, kind: str) -> None:
    prepare(home, "soul", CONNECTION, AGENT)
    (home / ".colony.toml").unlink()
    (home / name).rename(home / "moved")
    if kind == "file":
        (home / name).touch()
    else:
        (home / name).symlink_to(outside if kind == "link" else outside / "new")
    with pytest.raises(OSError, match="Not a directory"):
        prepare(home, "soul", CONNECTION, AGENT)
    assert not (home / ".colony.toml").exists()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("kept", "the host's\n")]


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("target", ["kept", "new", "."])
def test_a_link_in_a_files_place_is_neither_written_through_nor_followed(home: Path, outside: Path, name: str, target: str) -> None:
    prepare(home, "soul", CONNECTION, AGENT)
    (home / name).unlink()
    (home / name).symlink_to(outside / target)
    prepare(home, "another soul", CONNECTION, AGENT)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("kept", "the host's\n")]


@pytest.mark.parametrize("name", ["repo", "repo.new"])
@pytest.mark.parametrize("target", [".", "new"])
def test_no_repository_is_cloned_to_where_a_link_leads(home: Path, outside: Path, repository: Path, name: str, target: str) -> None:
    home.mkdir(parents=True)
    (home / name).symlink_to(outside / target)
    prepare(home, "soul", CONNECTION, AGENT, str(repository))
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("kept", "the host's\n")]
    assert (home / "repo").is_symlink() == (name == "repo")


def test_the_repository_is_cloned_whole_or_not_at_all(home: Path, repository: Path) -> None:
    (home / "repo.new").mkdir(parents=True)
    (home / "repo.new" / "half").touch()
    prepare(home, "soul", CONNECTION, AGENT, str(repository))
    assert (home / "repo" / "README").read_text() == "hello\n"
    assert not (home / "repo.new").exists()
    assert not (home / "repo" / "half").exists()


@pytest.mark.parametrize("url", ["/no/such/repository", "--upload-pack=touch pwned", "ext::sh -c touch% pwned"])
def test_a_repository_that_cannot_be_cloned_leaves_the_home_incomplete(home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    with pytest.raises(errors.Unavailable, match="can't clone"):
        prepare(home, "soul", CONNECTION, AGENT, url)
    assert not (home / ".colony.toml").exists()
    assert not (home / "repo").exists()
    assert not list(home.rglob("pwned*"))


def test_git_leaves_the_machines_files_and_the_clone_out(home: Path, repository: Path) -> None:
    prepare(home, "soul", CONNECTION, AGENT, str(repository))
    (home / ".claude" / "transcript.jsonl").write_text("x")
    for words in (("init", "--quiet"), ("add", "--all")):
        subprocess.run(["git", "-C", str(home), *words], check=True, capture_output=True)
    tracked = subprocess.run(["git", "-C", str(home), "ls-files"], check=True, capture_output=True, text=True).stdout.split()
    assert set(tracked) == FILES - set(MACHINE_FILES)


def test_no_value_breaks_out_of_the_settings_file(home: Path) -> None:
    hostile = 'x"\n[agent]\nsandbox = "none'
    prepare(home, "soul", {"url": "unix:/x", "token": "t"}, {"name": "scout", "model": hostile})
    assert tomllib.loads((home / ".colony.toml").read_text())["agent"] == {"name": "scout", "model": hostile}
