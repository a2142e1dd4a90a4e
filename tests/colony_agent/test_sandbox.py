"""Real sandboxes: what an agent sees, what it can change, and that nothing of it outlives its turn."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from colony_agent import process
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import Sandbox, for_home
from colony_agent.sandbox.bwrap import explain
from colony_agent.settings import MACHINE_FILES, Home
from tests.colony_agent.cast import new_mark, running, scout_at, wait_until
from tests.colony_agent.engines import ENGINES

SECRETS = ("SSH_AUTH_SOCK", "ANTHROPIC_API_KEY", "COLONY_TOKEN")


@pytest.fixture(params=ENGINES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return scout_at(tmp_path / "deep" / "homes" / "scout", sandbox=request.param)


def inside(sandbox: Sandbox, script: str, **env: str) -> str:
    """What a shell script prints in the sandbox, complaints included."""
    said: list[bytes] = []
    command = sandbox.confine(["/bin/sh", "-c", f"exec 2>&1\n{script}"], env)
    process.run(command, b"", said.append, 20, threading.Event())
    return b"\n".join(said).decode()


def test_the_home_is_the_working_directory_and_writable(home: Home) -> None:
    assert inside(for_home(home), "pwd; echo hi > note; cat note") == f"{home.path}\nhi"
    assert (home.path / "note").read_text() == "hi\n"
    assert (home.path / "note").stat().st_uid == os.getuid()


def test_nothing_else_of_the_host_is_visible(home: Home, tmp_path: Path) -> None:
    (tmp_path / "deep" / "secret").write_text("of another")
    (tmp_path / "deep" / "homes" / "eve").mkdir()
    assert inside(for_home(home), f"ls -A {tmp_path}/deep {tmp_path}/deep/homes").split() == [
        *(f"{tmp_path}/deep:", "homes"),
        *(f"{tmp_path}/deep/homes:", "scout"),
    ]
    system = {"sys"} if home.agent.sandbox == "podman" else set[str]()  # an empty folder
    system |= {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "tmp", "usr"}
    assert set(inside(for_home(home), "ls -A /").split()) <= system | {tmp_path.parts[1], Path(sys.base_prefix).parts[1]}


def test_etc_holds_what_programs_need_and_no_secrets(home: Home) -> None:
    found = inside(for_home(home), "find /etc -maxdepth 2 -not -path '/etc/ssl/certs/*' -not -path '/etc/alternatives/*'").split()
    assert {"/etc/passwd", "/etc/group", "/etc/resolv.conf", "/etc/ssl/certs"} <= set(found)
    assert not {"/etc/shadow", "/etc/ssh", "/etc/ssl/private", "/etc/machine-id"} & set(found)


def test_the_agent_is_an_ordinary_user_with_a_name(home: Home) -> None:
    uid = os.getuid() or 1000
    assert inside(for_home(home), "id -u; id -g; id -un; id -gn; hostname; grep -c . /etc/passwd").split() == [
        *(str(uid), str(uid)),
        *("scout", "scout", "scout", "2"),
    ]
    assert inside(for_home(home), "grep CapEff /proc/self/status").split() == ["CapEff:", "0" * 16]


@pytest.mark.parametrize("place", ["/", "/usr", "/etc", "/usr/lib", "/home"])
def test_the_system_can_not_be_written(home: Home, place: str) -> None:
    assert "ok" not in inside(for_home(home), f"mkdir -p {place}/planted && echo ok")


def test_tmp_and_run_are_private_and_writable(home: Home) -> None:
    mark = new_mark()
    assert inside(for_home(home), f"touch /tmp/{mark} /run/{mark}; ls -A /tmp /run").count(mark) == 2
    assert not Path("/tmp", mark).exists()


def test_the_environment_is_what_was_asked_for_and_no_more(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    found = dict(line.split("=", 1) for line in inside(for_home(home), "env", ASKED="for").splitlines())
    assert found.pop("HOSTNAME", "scout") == "scout"  # podman's
    assert set(found) - {"PWD", "SHLVL", "_"} == {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TERM", "ASKED"}
    assert found["HOME"] == str(home.path)


def test_the_environment_is_not_shown_in_the_process_list(home: Home) -> None:
    command = for_home(home).confine(["/bin/true"], {"ANTHROPIC_API_KEY": "sk-secret"})
    process.run(command, b"", print, 20, threading.Event())
    assert "sk-secret" not in " ".join(command.argv)


def test_its_processes_see_only_each_other(home: Home) -> None:
    pids = inside(for_home(home), "ls /proc | grep -E '^[0-9]+$'").split()
    assert 1 <= len(pids) < 10
    assert "no such process" in inside(for_home(home), f"kill -0 {os.getpid()}").lower()


@pytest.mark.parametrize("file", MACHINE_FILES)
@pytest.mark.parametrize(
    "attack",
    [
        "cat {file}",
        "echo evil > {file}",
        "echo evil >> {file}",
        "rm -f {file}",
        "echo evil > new; mv -f new {file}",
        "mv {file} away",
        "ln -f {file} link && echo evil > link",
        "chmod 666 {file}; echo evil > {file}",
        "truncate -s 9 {file}",
        "cd ..; mv scout elsewhere; mkdir scout",
        "unshare -Urm sh -c 'umount {file}; echo evil > {file}'",
        "unshare -Urm sh -c 'mkdir -p /tmp/home; mount --bind . /tmp/home; echo evil > /tmp/home/{file}'",
        "unshare -Urm sh -c 'mount -o remount,rw,bind {file}; echo evil > {file}'",
    ],
)
def test_a_machine_file_is_empty_inside_and_holds_against(home: Home, file: str, attack: str) -> None:
    before = (home.path / file).read_bytes()
    assert before
    said = inside(for_home(home), attack.format(file=file))
    assert before.decode() not in said
    assert (home.path / file).read_bytes() == before
    assert inside(for_home(home), f"wc -c < {file}") == "0"


@pytest.mark.parametrize("file", MACHINE_FILES)
def test_a_missing_machine_file_can_not_be_made_inside(home: Home, file: str) -> None:
    (home.path / file).unlink()
    assert "read-only" in inside(for_home(home), f"echo evil > {file}").lower()
    assert (home.path / file).read_bytes() == b""
    assert (home.path / file).stat().st_mode & 0o777 == 0o600


def test_a_link_in_place_of_a_machine_file_is_refused(home: Home) -> None:
    (home.path / ".colony-state.json").unlink()
    (home.path / ".colony-state.json").symlink_to("/etc/passwd")
    with pytest.raises(RunnerFailed, match=r"can't cover .*colony-state"):
        for_home(home).confine(["/bin/true"], {})


def test_what_is_bound_can_be_read_and_not_written(home: Home, tmp_path: Path) -> None:
    brain, other = tmp_path / "brain.py", tmp_path / "other.py"
    brain.write_text("think")
    other.write_text("unseen")
    script = f"cat {brain}; echo x > {brain}; cat {other}"
    said = inside(for_home(home, (brain,)), script)
    assert said.startswith("think")
    assert "Read-only" in said
    assert "No such file" in said
    assert brain.read_text() == "think"


def test_a_bound_socket_can_be_talked_to(home: Home, tmp_path: Path) -> None:
    address = tmp_path / "tools.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()
        script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(address)!r}); s.sendall(b'hi')"
        said = inside(for_home(home, (address,)), f'{Path(sys.executable).resolve()} -c "{script}"')
        connection, _ = server.accept()
        with connection:
            assert (said, connection.recv(9)) == ("", b"hi")


def test_python_works_inside(home: Home) -> None:
    python = Path(sys.executable).resolve()
    assert inside(for_home(home), f"{python} -c 'import json, ssl, sqlite3, sys; print(sys.version_info[:2])'") == str(sys.version_info[:2])


def test_git_works_inside(home: Home) -> None:
    assert "No commits yet" in inside(for_home(home), "git init -q repo && cd repo && git status")


def test_the_network_is_shared_but_not_with_git(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        python, port = Path(sys.executable).resolve(), server.getsockname()[1]
        connect = f"{python} -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'"
        assert inside(for_home(home), connect) == ""
        assert "ConnectionRefusedError" in inside(for_home(home, keeps_history=True), connect)


def test_it_dies_with_its_parent(home: Home, tmp_path: Path) -> None:
    mark = new_mark()
    script = tmp_path / "turn.py"
    script.write_text(
        f"""
import threading
from pathlib import Path
from colony_agent import process
from colony_agent.sandbox import for_home
from tests.colony_agent.cast import scout_at
home = scout_at(Path({str(home.path)!r}), sandbox={home.agent.sandbox!r})
command = for_home(home).confine(["/bin/sh", "-c", "setsid sleep {mark} & sleep {mark}"], {{}})
process.run(command, b"", print, 60, threading.Event())
"""
    )
    with subprocess.Popen([sys.executable, script]) as parent:
        wait_until(lambda: len([found for found in running(mark) if found.name() == "sleep"]) == 2)
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not running(mark))


def test_without_its_engine_it_says_what_to_install(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    said = {"bwrap": "bwrap is not installed: apt-get install bubblewrap", "podman": "podman is not installed: apt-get install podman"}
    with pytest.raises(RunnerFailed, match=said[home.agent.sandbox]):
        for_home(home).confine(["/bin/true"], {})


def test_without_user_namespaces_it_says_what_to_allow() -> None:
    """A sandbox that forbids further namespaces is a host that does."""
    forbidding = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--"]
    refused = subprocess.run([*forbidding, "bwrap", "--ro-bind", "/", "/", "--unshare-user", "true"], capture_output=True, text=True)
    assert refused.returncode
    assert "allow unprivileged user namespaces" in (explain(refused.stderr) or "")


def test_a_program_that_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(RunnerFailed, match=r"the sandbox did not start: (bwrap: execvp|can't start) /no/such: No such file"):
        process.run(for_home(home).confine(["/no/such"], {}), b"", print, 20, threading.Event())


def test_without_a_sandbox_the_environment_is_clean_too_and_the_log_warns(
    home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLONY_TOKEN", "secret")
    home = replace(home, agent=replace(home.agent, sandbox="none"))
    with caplog.at_level(logging.WARNING):
        said = inside(for_home(home), "env; pwd; cat .colony.toml")
    assert "COLONY_TOKEN" not in said
    assert 'name = "scout"' in said
    assert caplog.messages == ["runs without a sandbox agent=scout"]


def test_a_honeytoken_lies_where_credentials_are_looked_for(home: Home) -> None:
    sandbox = for_home(home, honeytoken="colony-admin-0123")
    assert inside(sandbox, "cat /run/secrets/*") == "colony-admin-0123"
    assert "kept" in inside(sandbox, "echo x > /run/secrets/colony-admin-token || echo kept")
    assert "colony-admin-0123" not in " ".join(sandbox.confine(["/bin/true"], {}).argv)
    assert "No such file" in inside(for_home(home), "cat /run/secrets/colony-admin-token")
