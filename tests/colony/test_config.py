"""Where a caller's settings come from, and which token goes where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from colony import config, errors


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "COLONY_HOME": str(home / "colony")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def personal(home: Path, text: str = 'url = "https://personal"\ntoken = "personal-token"') -> Path:
    return write(home / ".config/colony/config.toml", text)


def nearest(project: Path, text: str = 'url = "https://project"\ntoken = "project-token"') -> Path:
    return write(project / ".colony.toml", text)


def test_without_any_setting_it_is_the_local_socket(environ: dict[str, str], project: Path, home: Path) -> None:
    found = config.load(environ=environ, directory=project)
    assert (found.url, found.token) == (f"unix:{home}/colony/run/api.sock", None)


def test_the_user_s_file_comes_before_the_local_socket(environ: dict[str, str], project: Path, home: Path) -> None:
    path = personal(home)
    assert config.load(environ=environ, directory=project) == config.Settings("https://personal", "personal-token", str(path))


def test_the_nearest_project_file_comes_before_the_user_s(environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    path = nearest(project)
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert config.load(environ=environ, directory=deep) == config.Settings("https://project", "project-token", str(path))


def test_the_environment_comes_before_every_file(environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    nearest(project)
    environ |= {"COLONY_URL": "https://environ/", "COLONY_TOKEN": "environ-token"}
    assert config.load(environ=environ, directory=project) == config.Settings("https://environ", "environ-token", "COLONY_URL")


def test_arguments_come_before_the_environment(environ: dict[str, str], project: Path) -> None:
    environ |= {"COLONY_URL": "https://environ", "COLONY_TOKEN": "environ-token"}
    found = config.load("https://argument", "argument-token", environ=environ, directory=project)
    assert found == config.Settings("https://argument", "argument-token", "the command line")


def test_a_url_from_the_environment_gets_no_token_from_a_file(environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    assert config.load(environ=environ | {"COLONY_URL": "https://environ"}, directory=project).token is None


def test_a_project_file_can_not_draw_out_the_user_s_token(environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    nearest(project, 'url = "https://evil"')
    found = config.load(environ=environ, directory=project)
    assert (found.url, found.token) == ("https://evil", None)


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_project_file_can_not_draw_out_a_token_that_was_given(way: str, environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    nearest(project, 'url = "https://evil"')
    if way == "environment":
        environ["COLONY_TOKEN"] = "given"
    found = config.load(token="given" if way == "argument" else None, environ=environ, directory=project)
    assert (found.url, found.token) == ("https://personal", "given")


def test_a_host_whose_server_is_down_is_still_where_people_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HOME": str(tmp_path)}
    monkeypatch.setattr(config, "keeps_host", lambda: False)
    monkeypatch.setattr(config, "HOST_SOCKET", tmp_path / "api.sock")
    monkeypatch.setattr(config, "HOST_RELEASES", tmp_path / "releases")
    private = config.home(environ) / "run/api.sock"
    assert config.socket_path(environ) == private, "there is no host"
    (tmp_path / "releases").mkdir()
    assert config.socket_path(environ) == tmp_path / "api.sock"
    private.parent.mkdir(parents=True)
    private.touch()
    assert config.socket_path(environ) == private, "their own comes first"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_project_file_that_others_can_write_is_ignored(mode: int, environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    nearest(project).chmod(mode)
    assert config.load(environ=environ, directory=project).url == "https://personal"


def test_a_project_file_of_somebody_else_is_ignored(
    environ: dict[str, str], project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    personal(home)
    path = nearest(project)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert config.load(environ=environ, directory=project).url == "https://personal"


def test_an_untrusted_file_does_not_hide_a_trusted_one_above_it(environ: dict[str, str], project: Path) -> None:
    nearest(project)
    nearest(project / "below", 'url = "https://evil"').chmod(0o666)
    assert config.load(environ=environ, directory=project / "below").url == "https://project"


def test_a_project_file_without_a_url_leaves_the_choice_to_the_user_s(environ: dict[str, str], project: Path, home: Path) -> None:
    personal(home)
    nearest(project, 'token = "project-token"')
    assert config.load(environ=environ, directory=project).token == "personal-token"


def test_a_relative_socket_is_beside_the_file_that_names_it(environ: dict[str, str], project: Path) -> None:
    nearest(project, 'url = "unix:run/api.sock"')
    below = project / "below"
    below.mkdir()
    assert config.load(environ=environ, directory=below).url == f"unix:{project}/run/api.sock"


def test_a_relative_socket_from_the_environment_is_beside_the_caller(
    environ: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert config.load(environ=environ | {"COLONY_URL": "unix:api.sock"}).url == f"unix:{project}/api.sock"


@pytest.mark.parametrize("url", ["unix:/run/api.sock", "unix:///run/api.sock"])
def test_an_absolute_socket_stays_where_it_is(url: str, environ: dict[str, str], project: Path) -> None:
    nearest(project, f'url = "{url}"')
    assert config.load(environ=environ, directory=project).url == "unix:/run/api.sock"


@pytest.mark.parametrize(
    "text", ["url = ", "[", 'url = "a"\nurl = "b"', "\udcff", "url = 7", 'url = "https://a"\ntoken = 7', 'url = "ftp://a"']
)
def test_a_broken_file_is_one_clear_line(text: str, environ: dict[str, str], project: Path, home: Path) -> None:
    path = personal(home, "")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(errors.Invalid) as raised:
        config.load(environ=environ, directory=project)
    assert "\n" not in raised.value.detail
    assert str(path) in raised.value.detail or "ftp://a" in raised.value.detail


@pytest.mark.parametrize("token", ["två", "a b", "a\nb", "a\x1b[31m"])
def test_a_token_that_no_header_can_hold_is_refused_without_repeating_it(token: str, environ: dict[str, str], project: Path) -> None:
    with pytest.raises(errors.Invalid) as raised:
        config.load("https://argument", token, environ=environ, directory=project)
    assert token not in raised.value.detail


def test_a_removed_working_folder_does_no_harm(environ: dict[str, str], project: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    personal(home)
    monkeypatch.chdir(project)
    project.rmdir()
    assert config.load(environ=environ).url == "https://personal"


def test_the_xdg_folder_is_heeded(environ: dict[str, str], project: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "xdg/colony/config.toml", 'url = "https://xdg"')
    found = config.load(environ=environ | {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, directory=project)
    assert (found.url, found.source) == ("https://xdg", str(path))


def test_a_colony_s_home_is_named_by_the_environment(tmp_path: Path) -> None:
    assert config.home({"COLONY_HOME": str(tmp_path)}) == tmp_path
    assert config.socket_path({"COLONY_HOME": str(tmp_path)}) == tmp_path / "run" / "api.sock"


def test_root_s_colony_is_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.home({}) == Path("/var/lib/colony")
    assert config.socket_path({}) == Path("/run/colony/api.sock")


def test_an_ordinary_user_s_colony_is_their_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.home({"HOME": str(home)}) == home / ".local/share/colony"
    private = home / ".local/share/colony/run/api.sock"
    write(private, "")  # a private server's socket comes before the host's
    assert config.socket_path({"HOME": str(home)}) == private
