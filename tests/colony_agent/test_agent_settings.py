"""The [agent] table of .colony.toml."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from colony import errors
from colony.bounds import BOUNDS
from colony_agent.settings import AgentSettings, load

NAMES = [field.name for field in fields(AgentSettings)]
FLAGS = [name for name, kind in get_type_hints(AgentSettings).items() if kind is bool]
NUMBERS = [name for name, kind in get_type_hints(AgentSettings).items() if kind is int]


def write(home: Path, agent: str, head: str = 'url = "unix:/run/colony/api.sock"\n') -> Path:
    (home / ".colony.toml").write_text(f"{head}\n[agent]\n{agent}\n")
    return home


def refused(home: Path, agent: str) -> str:
    with pytest.raises(errors.Invalid) as refused:
        load(write(home, agent))
    return refused.value.detail


def test_a_name_is_enough(tmp_path: Path) -> None:
    found = load(write(tmp_path, 'name = "scout"'))
    assert found.agent == AgentSettings("scout", egress="unix:/run/colony-egress/egress.sock"), "an agent of a host's colony has its gate"
    assert (found.path, found.colony.url, found.colony.token) == (tmp_path, "unix:/run/colony/api.sock", None)
    assert found.config_file == tmp_path / ".colony.toml"


def test_every_setting_can_be_set(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "name": "rook",
        "runner": "command",
        "command": ("/bin/sh", "brain.sh"),
        "claude": "/opt/claude",
        "model": "claude-test",
        "sandbox": "podman",
        "image": "/opt/images/tools",
        "egress": "unix:/run/colony-egress/egress.sock",
        "may_write_instructions": True,
        "repo": "repo",
        "turn_timeout_seconds": 61,
        "lease_seconds": 31,
        "pulse_minutes": 0,
        "memory_max_bytes": 4096,
        "dreams_kept": 3,
    }
    assert chosen.keys() == set(NAMES), "a setting without a test"
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in chosen.items())
    assert load(write(tmp_path, text)).agent == AgentSettings(**chosen)


def test_the_token_and_the_url_are_the_colonys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says is another colony's."""
    monkeypatch.setenv("COLONY_URL", "http://elsewhere")
    monkeypatch.setenv("COLONY_TOKEN", "elsewhere")
    found = load(write(tmp_path, 'name = "scout"', 'url = "https://colony.example"\ntoken = "t"\n'))
    assert (found.colony.url, found.colony.token) == ("https://colony.example", "t")


def test_a_missing_file_says_that_no_agent_lives_here(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid, match="no agent lives in"):
        load(tmp_path)


@pytest.mark.parametrize("text", ['url = "http://x"', 'url = "http://x"\n[agent]\nmodel = "m"', 'agent = "scout"'])
def test_a_missing_name_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / ".colony.toml").write_text(text)
    with pytest.raises(errors.Invalid, match="the table \\[agent\\] with a name is missing"):
        load(tmp_path)


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    said = refused(tmp_path, "name = ")
    assert str(tmp_path / ".colony.toml") in said
    assert "line" in said


def test_an_unknown_key_is_told_with_the_known_ones(tmp_path: Path) -> None:
    said = refused(tmp_path, 'name = "scout"\nmodle = "m"')
    assert "unknown key agent.modle" in said
    for name in NAMES:
        assert name in said


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["true", "1.5", "-1", "{}", "[1]", "1979-05-27"])
def test_a_value_of_the_wrong_kind_is_refused_with_its_key(tmp_path: Path, name: str, value: str) -> None:
    if name in FLAGS and value == "true":
        value = '"true"'
    said = refused(tmp_path, f"{name} = {value}" + ("" if name == "name" else '\nname = "scout"'))
    assert f"agent.{name} must be" in said
    assert str(tmp_path / ".colony.toml") in said


@pytest.mark.parametrize("value", ["/run/colony-egress/egress.sock", "unix:egress.sock", "unix:/run/egress.sock", "http://127.0.0.1:3128"])
def test_a_gate_is_a_unix_socket_by_its_whole_path(tmp_path: Path, value: str) -> None:
    assert "agent.egress must be unix: and an absolute path" in refused(tmp_path, f'name = "scout"\negress = "{value}"')


@pytest.mark.parametrize("value", ["tools", "/", "/opt/a,b", "/opt/a:b"])
def test_an_image_is_a_folder_by_its_whole_path(tmp_path: Path, value: str) -> None:
    assert "agent.image must be the absolute path of a folder" in refused(tmp_path, f'name = "scout"\nimage = "{value}"')


@pytest.mark.parametrize("name", ["runner", "sandbox"])
def test_a_choice_names_the_others(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path, f'name = "scout"\n{name} = "magic"')
    for choice in get_args(get_type_hints(AgentSettings)[name]):
        assert choice in said


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_bounds_that_hold(tmp_path: Path, name: str) -> None:
    low, high = BOUNDS[name]
    for value in (low, high):
        assert getattr(load(write(tmp_path, f'name = "scout"\n{name} = {value}')).agent, name) == value
    for value in (low - 1, high + 1):
        assert f"agent.{name} must be" in refused(tmp_path, f'name = "scout"\n{name} = {value}')


def test_the_defaults_are_within_their_bounds() -> None:
    assert set(NUMBERS) == set(BOUNDS)
    for name, (low, high) in BOUNDS.items():
        assert low <= getattr(AgentSettings("scout"), name) <= high
