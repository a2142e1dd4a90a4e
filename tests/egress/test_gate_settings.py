"""The gate's settings, and the key that nothing shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from colony import errors
from egress import settings
from egress.settings import OAUTH_BETA

KEY = "sk-ant-very-secret"


def load(tmp_path: Path, text: str = "", **credentials: str) -> settings.Settings:
    file = tmp_path / "egress.toml"
    file.write_text(text)
    for name, value in credentials.items():
        (tmp_path / name).write_text(value + "\n")
    return settings.load(file, {"CREDENTIALS_DIRECTORY": str(tmp_path), "ANTHROPIC_API_KEY": "of the environment"})


def test_without_anything_said_all_has_a_default(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found == settings.Settings()
    assert found.model.url == "https://api.anthropic.com"


def test_what_the_file_says_counts(tmp_path: Path) -> None:
    text = 'socket = "/tmp/x.sock"\nserver = "unix:/tmp/api.sock"\nmodel_url = "https://model.example/api/"\n'
    text += 'model_fields = ["inference_geo"]\n[bounds]\nconnections = 7\n'
    found = load(tmp_path, text)
    assert (str(found.socket), found.server, found.model.url) == ("/tmp/x.sock", "unix:/tmp/api.sock", "https://model.example/api")
    assert (found.bounds.connections, found.model_fields) == (7, ("inference_geo",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("colour = 1", "colour"),
        ("socket = 1", "socket"),
        ('socket = ""', "socket"),
        ("bounds = 1", "bounds"),
        ("[bounds]\ncolour = 1", "colour"),
        ("[bounds]\nconnections = 0", "connections"),
        ("[bounds]\nconnections = true", "connections"),
        ("[bounds]\nconnections = 1.5", "connections"),
        ("no toml", "egress.toml"),
        ('model_fields = "speed"', "model_fields"),
        ("model_fields = [1]", "model_fields"),
    ],
)
def test_what_cant_be_a_setting_is_named(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(errors.Invalid, match=names):
        load(tmp_path, text)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="--settings"):
        settings.load(tmp_path / "none.toml", {})


def test_each_credential_has_its_header(tmp_path: Path) -> None:
    key = load(tmp_path, ANTHROPIC_API_KEY=KEY).model
    assert (key.header, key.value and key.value.reveal(), key.beta) == ("x-api-key", KEY, "")
    (tmp_path / "ANTHROPIC_API_KEY").unlink()
    oauth = load(tmp_path, CLAUDE_CODE_OAUTH_TOKEN=KEY).model
    assert (oauth.header, oauth.value and oauth.value.reveal(), oauth.beta) == ("authorization", f"Bearer {KEY}", OAUTH_BETA)
    token = load(tmp_path, ANTHROPIC_AUTH_TOKEN=KEY).model
    assert (token.header, token.value and token.value.reveal(), token.beta) == ("authorization", f"Bearer {KEY}", "")


def test_the_environment_gives_no_key(tmp_path: Path) -> None:
    assert load(tmp_path).model.value is None
    assert settings.load(tmp_path / "egress.toml", {"ANTHROPIC_API_KEY": KEY}).model.value is None


def test_nothing_shows_the_key(tmp_path: Path) -> None:
    found = load(tmp_path, ANTHROPIC_API_KEY=KEY)
    for text in (repr(found), str(found), repr(found.model), f"{found.model.value}", repr(vars(found.model))):
        assert KEY not in text
    with pytest.raises(errors.Invalid) as caught:
        load(tmp_path, ANTHROPIC_API_KEY=f"{KEY}\nX-Injected: 1")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("http://api.anthropic.com", "http://10.0.0.1", "http://localhost:80", "http://127.0.0.1.evil.example", "ftp://x"),
        "model.example",
        *(
            "https://",
            "https://user:pw@model.example",
            "https://model.example?x=1",
            "https://model.example#x",
            "https://model.example:99999",
        ),
        *("https://model.example/a b", "https://mödel.example", "file:///etc/passwd", "https://model.example:0", "http://2130706433"),
    ],
)
def test_the_key_goes_unprotected_nowhere_but_to_the_loopback(tmp_path: Path, url: str) -> None:
    with pytest.raises(errors.Invalid):
        load(tmp_path, ANTHROPIC_BASE_URL=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080", "https://model.example:8443/api"])
def test_a_stand_in_may_be_on_the_loopback(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, ANTHROPIC_BASE_URL=url).model.url == url


def test_who_has_a_credential_of_its_own_uses_that_and_for_the_rest_those_of_all(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        **{"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "https://all.example.com", "scout.ANTHROPIC_API_KEY": "sk-scouts", "note": "x"},
    )
    own = found.own_models["scout"]
    assert own.value
    assert (own.value.reveal(), own.url, {*found.own_models}) == ("sk-scouts", "https://all.example.com", {"scout"})
    assert found.model.value
    assert found.model.value.reveal() == KEY
    assert "sk-scouts" not in repr(found)


def test_a_key_of_ones_own_counts_before_everybodys_of_another_kind(tmp_path: Path) -> None:
    found = load(tmp_path, **{"ANTHROPIC_AUTH_TOKEN": KEY, "scout.ANTHROPIC_API_KEY": "sk-scouts"})
    own = found.own_models["scout"]
    assert (own.header, own.value and own.value.reveal()) == ("x-api-key", "sk-scouts")
    assert (found.model.header, found.model.value and found.model.value.reveal()) == ("authorization", f"Bearer {KEY}")
