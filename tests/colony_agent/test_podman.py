"""What is podman's alone: an image, settings that nobody plants, and no trace on the host. What it has in common is in `test_sandbox`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from colony.failures import CRASHED
from colony_agent import process
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox import container_stage, for_home
from colony_agent.sandbox.container_stage import COULD_NOT
from colony_agent.sandbox.podman import explain
from colony_agent.settings import Home
from provisioning.reach import PODMAN
from tests.colony_agent.cast import scout_at
from tests.colony_agent.engines import ENGINES
from tests.colony_agent.test_sandbox import inside

pytestmark = pytest.mark.skipif("podman" not in ENGINES, reason=f"apt-get install {' '.join(PODMAN)}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return scout_at(tmp_path / "scout", sandbox="podman")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system with a shell, and little more."""
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/issue").write_text("an image\n")
    (image / "etc/passwd").symlink_to("/etc/issue")
    for program in ("sh", "cat", "id", "ls"):
        found = subprocess.run(["ldd", f"/usr/bin/{program}"], capture_output=True, text=True, check=True).stdout.split()
        for file in (f"/usr/bin/{program}", *(word for word in found if word.startswith("/"))):
            place = image / "usr" / file.removeprefix("/usr").lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(Path(file).read_bytes())
            place.chmod(0o755)
    for name in ("bin", "lib", "lib64"):
        (image / name).symlink_to(f"usr/{name}")
    for folder in ("home", "opt", "tmp", *tmp_path.relative_to("/").parts[:1]):
        (image / folder).mkdir(exist_ok=True)
    if os.getuid() == 0:  # it is nobody's whom the agent is
        for path in (image, *image.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    return image


def with_image(home: Home, image: Path) -> Home:
    return replace(home, agent=replace(home.agent, image=str(image)))


def test_an_image_is_seen_instead_of_the_hosts_files(home: Home, image: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in image.rglob("*")}
    said = inside(for_home(with_image(home, image)), "cat /etc/issue; ls /usr/bin; id -un; echo hi > note; cat note").split("\n")
    assert said == ["an image", "cat", "id", "ls", "sh", "scout", "hi"]
    assert (home.path / "note").read_text() == "hi\n"
    assert {path: path.lstat().st_mtime_ns for path in image.rglob("*")} == before


def test_an_image_can_not_be_written(home: Home, image: Path) -> None:
    said = inside(for_home(with_image(home, image)), "echo evil > /etc/issue; echo evil > /usr/bin/sh; echo evil > /new; echo done")
    assert said.count("Read-only file system") == 3
    assert (image / "etc/issue").read_text() == "an image\n"


def test_what_is_named_beside_usr_is_the_hosts_and_in_it_the_images(home: Home, image: Path, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\ncat /etc/issue\n")
    (tmp_path / "program").chmod(0o755)
    sandbox = for_home(with_image(home, image), (Path("/bin/sh"),))
    said: list[bytes] = []
    process.run(sandbox.confine([str(tmp_path / "program")], {}, [tmp_path / "program"]), b"", said.append, 20, threading.Event())
    assert said == [b"an image"]
    assert inside(sandbox, "ls /bin/").split() == ["cat", "id", "ls", "sh"]


def test_an_image_that_is_none_is_named(home: Home, tmp_path: Path) -> None:
    with pytest.raises(RunnerFailed, match=f"agent.image holds no root file system: {tmp_path}") as failed:
        for_home(with_image(home, tmp_path)).confine(["/bin/true"], {})
    assert failed.value.failure is CRASHED


def test_nothing_that_lies_in_the_home_tells_podman_what_to_do(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do so outside of the container."""
    planted = tmp_path / "planted"
    (home.path / ".config/containers").mkdir(parents=True)
    evil = f'[containers]\nvolumes = ["{tmp_path}:/evil"]\n[engine]\nruntime = "evil"\n[engine.runtimes]\nevil = ["{home.path}/crun"]\n'
    for name in ("containers.conf", "storage.conf"):
        (home.path / ".config/containers" / name).write_text(evil)
    (home.path / "crun").write_text(f"#!/bin/sh\ntouch {planted}\n")
    (home.path / "crun").chmod(0o755)
    monkeypatch.setenv("HOME", str(home.path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home.path / ".config"))
    monkeypatch.setenv("CONTAINERS_CONF", str(home.path / ".config/containers/containers.conf"))
    assert inside(for_home(home), "ls -d /evil; echo done").endswith("done")
    assert inside(for_home(home), "ls -d /evil").startswith("ls: cannot access '/evil'")
    assert not planted.exists()


def test_it_leaves_nothing_on_the_host(home: Home, tmp_path: Path) -> None:
    def found() -> set[Path]:
        folders = (Path(folder) for folder in ("/run/crun", "/run/libpod", "/run/containers", "/var/lib/containers"))
        return {path for folder in (*folders, tmp_path) for path in folder.rglob("*")}

    inside(for_home(home), "true")  # makes what covers are for
    before = found()
    with pytest.raises(RunnerFailed):
        process.run(for_home(home).confine(["/bin/sleep", "60"], {}), b"", print, 0.5, threading.Event())
    inside(for_home(home), "true")
    assert found() == before
    assert not [path for path in os.listdir("/dev/shm") if "libpod" in path]


def test_it_has_podmans_seccomp_filter_and_can_gain_no_privileges(home: Home) -> None:
    assert inside(for_home(home), "grep -E 'Seccomp:|NoNewPrivs|CapBnd' /proc/self/status").split() == [
        *("CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"),
    ]


def test_the_stage_is_set_nowhere_but_in_namespaces_of_its_own() -> None:
    order = '{"files": {"/written": "evil"}}'
    refused = subprocess.run([sys.executable, "-I", "-S", container_stage.__file__, "0"], input=order, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr == f"it is not the first process of its namespaces\n{COULD_NOT}\n"


def test_an_argument_is_no_option_of_podmans(home: Home) -> None:
    said: list[bytes] = []
    command = for_home(home).confine(["/bin/echo", "--privileged", "--volume", "/:/host", "a,b", ""], {})
    process.run(command, b"", said.append, 20, threading.Event())
    assert said == [b"--privileged --volume /:/host a,b "]


def test_a_variable_arrives_as_it_is_or_is_refused(home: Home) -> None:
    odd = " # \"two' words $HOME, and = more\\ "
    assert inside(for_home(home), 'printf "%s|" "$ODD" "$EMPTY" "$HOME"', ODD=odd, EMPTY="") == f"{odd}||{home.path}|"
    with pytest.raises(RunnerFailed, match="podman takes no variable of more than one line: ODD"):
        for_home(home).confine(["/bin/true"], {"ODD": "a\nPATH=/evil"})


def test_no_variable_of_the_agents_is_podmans(home: Home, tmp_path: Path) -> None:
    (tmp_path / "evil.conf").write_text(f'[containers]\nvolumes = ["{tmp_path}:/evil"]\n')
    steering = {"CONTAINERS_CONF_OVERRIDE": str(tmp_path / "evil.conf"), "CONTAINERS_CONF": str(tmp_path / "evil.conf")}
    command = for_home(home).confine(["/bin/true"], steering)
    assert steering.items().isdisjoint(command.env.items())
    assert inside(for_home(home), "ls -d /evil; echo $CONTAINERS_CONF", **steering).split("\n")[-1] == str(tmp_path / "evil.conf")
    assert inside(for_home(home), "ls -d /evil", **steering).startswith("ls: cannot access '/evil'")


def test_a_home_with_an_odd_name_is_shown(tmp_path: Path) -> None:
    home = scout_at(tmp_path / 'a,b "c" d', sandbox="podman")
    assert inside(for_home(home), "pwd; echo hi > note") == str(home.path)
    assert (home.path / "note").read_text() == "hi\n"


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("", None),
        ("Error: mine\n", None),
        (f"Error: why\n{COULD_NOT}\n", "the sandbox did not start: Error: why"),
        (f"{COULD_NOT}\n", f"the sandbox did not start: {COULD_NOT}"),
        ('{"msg":"no such thing","level":"error","time":""}\n', "the sandbox did not start: crun: no such thing"),
        (
            "unshare: unshare failed: Operation not permitted\n",
            "unshare: unshare failed: Operation not permitted; allow unprivileged user namespaces "
            "(sysctl user.max_user_namespaces, on Ubuntu an AppArmor profile)",
        ),
    ],
)
def test_what_the_engine_says_is_told_from_what_the_program_says(stderr: str, said: str | None) -> None:
    assert explain("/bin/true", stderr) == said
