"""What `colony login` asks, checks and keeps."""

from __future__ import annotations

import os
import stat

import pytest

from colony import client, config, errors, login
from tests.colony.cast import Shell, on_terminal
from tests.server.cast import token_of

ANN = token_of("ann")


@pytest.fixture
def stranger(run: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Somebody who has not said yet where their colony is."""
    monkeypatch.delenv("COLONY_URL")
    return run


def test_a_login_is_kept_for_later_commands_and_from_other_eyes(stranger: Shell) -> None:
    before = os.umask(0)
    try:
        said = stranger("login", "--url", stranger.house.url, "--token", ANN)
    finally:
        os.umask(before)
    path = config.user_file()
    assert (said.code, "username\tann\n" in said.out) == (0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]
    assert "username\tann\n" in stranger("whoami").out


def test_a_refused_login_changes_nothing(stranger: Shell) -> None:
    stranger("login", "--url", stranger.house.url, "--token", ANN)
    kept = config.user_file().read_bytes()
    assert stranger("login", "--token", "wrong", "--url", stranger.house.url).code == errors.Unauthenticated.exit_code
    assert config.user_file().read_bytes() == kept


def test_a_login_that_can_not_be_written_leaves_the_old_one(stranger: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    login.keep(config.user_file(), "https://old", None)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = stranger("login", "--url", stranger.house.url, "--token", ANN)
    assert (said.code, said.err) == (1, "colony: [Errno 28] No space left on device\n")
    assert config.user_file().read_text() == 'url = "https://old"\n'
    assert len(list(config.user_file().parent.iterdir())) == 1


def test_a_login_takes_what_is_missing_from_a_pipe(stranger: Shell) -> None:
    assert stranger("login", stdin=f"{stranger.house.url}\n".encode()).code == 0  # on the socket no token is needed
    said = stranger("login", "--url", "https://colony.invalid")
    assert (said.code, said.err) == (2, "colony: no token; give it with --token, or a line of it on stdin\n")


def test_a_login_says_when_another_setting_comes_first(run: Shell) -> None:
    assert "but here COLONY_URL comes first" in run("login", "--url", run.house.url, "--token", ANN).err


def test_an_unencrypted_address_earns_a_warning(stranger: Shell) -> None:
    def connect(settings: config.Settings) -> client.Client:
        return client.Client(stranger.house.url, settings.token)

    assert "not encrypted" in stranger("login", "--url", "http://colony.example", "--token", ANN, connect=connect).err
    assert "not encrypted" not in stranger("login", "--url", "http://localhost:8700", "--token", ANN, connect=connect).err


def test_a_login_asks_on_a_terminal_and_does_not_show_the_token(stranger: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLONY_TOKEN", raising=False)
    code, seen = on_terminal(["http://127.0.0.1:9", "s3cret"], "login")
    assert "url [unix:" in seen
    assert "token:" in seen
    assert "s3cret" not in seen
    assert code == errors.Unavailable.exit_code
