"""Which code this is, as `--version` says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from colony import __version__, config, release


def test_a_checkout_has_a_version_and_a_host_s_release_a_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert release.version() == __version__
    monkeypatch.setattr(release, "HERE", config.HOST_RELEASES / "0.1.0-abcdef")
    assert release.version() == "0.1.0-abcdef"


def test_a_release_is_where_its_code_is() -> None:
    assert Path(__file__).parents[2] == release.HERE
