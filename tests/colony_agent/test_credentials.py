"""Credentials reach a turn from systemd, or from the environment where there is none."""

from __future__ import annotations

from pathlib import Path

from colony_agent.credentials import given

NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


def test_those_of_systemd_come_before_the_environments(tmp_path: Path) -> None:
    (tmp_path / "ANTHROPIC_API_KEY").write_text("from systemd\n")
    (tmp_path / "OTHER").write_text("not asked for")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "ANTHROPIC_API_KEY": "from the environment", "ANTHROPIC_BASE_URL": "http://here"}
    assert given(NAMES, environ) == {"ANTHROPIC_API_KEY": "from systemd", "ANTHROPIC_BASE_URL": "http://here"}


def test_without_systemd_there_is_the_environment(tmp_path: Path) -> None:
    assert given(NAMES, {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "", "HOME": "/"}) == {"ANTHROPIC_API_KEY": "k"}
    assert given(NAMES, {"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")}) == {}
