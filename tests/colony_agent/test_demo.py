"""`make run`, as a process in a copy of this repository, so that nobody's own colony is touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from colony import operations, schema
from colony.client import Client
from colony.files import private_folder
from tests.colony_agent.agents import LONG, Process, living, wait_for
from tests.server.machine import free_port

ROOT = Path(__file__).parents[2]
COPIED = ("colony", "colony_agent", "provisioning", "server", "souls")
STOPPED_WITHIN = 3.0 + 3.0  # seconds; what is promised, and what a busy machine may add
QUESTION = "where are inbox items created?"


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    """A copy with the same code, and a commit of its own for the agent to clone."""
    folder = Path(tempfile.mkdtemp(prefix="colony-run-", dir="/tmp"))
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@colony.invalid")
    for words in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "--message", "first")):
        subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)


class Demo(Process):
    """A colony that runs for trying it out."""

    def __init__(self, repository: Path, data: Path, port: int = 0) -> None:
        self.data, self.port = data, port or free_port()
        argv = [sys.executable, "-m", "colony_agent.demo", "--port", str(self.port), "--data", str(data)]
        super().__init__(argv, data.with_suffix(".log"), cwd=repository)

    def await_ready(self) -> None:
        self.await_log("ready: ", seconds=2 * LONG)

    def client(self) -> Client:
        return Client(f"unix:{self.data}/run/api.sock")

    def messages(self) -> list[schema.Message]:
        with self.client() as client:
            return client.call(operations.READ, schema.ReadMessages(channel="general", since=0, limit=500)).messages

    def child(self, words: str) -> psutil.Process:
        """The process of its server or its worker."""
        wait_for(lambda: self.children(words), words)
        return self.children(words)[0]

    def children(self, words: str) -> list[psutil.Process]:
        return [each for each in living(psutil.Process(self.pid).children()) if words in command_of(each)]


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="colony-data-", dir="/tmp"))
    yield folder / "var"
    shutil.rmtree(folder)


def test_the_first_run_shows_a_conversation_and_the_second_goes_on_with_it(repository: Path, data: Path) -> None:
    with Demo(repository, data) as demo:
        demo.await_ready()
        said = demo.log()
        assert said.index(f"@scout {QUESTION}") < said.index("inbox.py") < said.index(f"ready: http://127.0.0.1:{demo.port}\n")
        assert "no answer yet" not in said
        first = demo.messages()
        assert [message.author for message in first][1:] == ["scout"]
        assert first[1].reply_to == first[0].id
        with socket.create_connection(("127.0.0.1", demo.port), timeout=10):
            pass
        demo.signal(signal.SIGTERM)
        assert demo.wait() == 0
    with Demo(repository, data) as demo:
        demo.await_ready()
        assert demo.messages()[:2] == first
        assert [message.author for message in demo.messages()][2:] == [first[0].author, "scout"]
        assert "make run" in (repository / ".colony.toml").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["at once", "while it starts", "when it is ready"])
def test_a_signal_ends_everything_in_time(repository: Path, data: Path, number: signal.Signals, moment: str) -> None:
    with Demo(repository, data) as demo:
        if moment == "when it is ready":
            demo.await_ready()
        elif moment == "while it starts":
            wait_for(lambda: (data / "colony.db").exists(), "database")
        else:
            wait_for(lambda: (data / "lock").exists(), "beginning")
        family = demo.family()
        began = time.monotonic()
        demo.signal(number)
        assert demo.wait() == 0
        assert time.monotonic() - began < STOPPED_WITHIN
        assert not living(family)
        assert "Traceback" not in demo.log()


def test_ctrl_c_reaches_the_whole_group_and_still_ends_in_order(repository: Path, data: Path) -> None:
    with Demo(repository, data) as demo:
        demo.await_ready()
        family = demo.family()
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait() == 0
        assert not living(family)
        assert "worker ends" in (data / "log" / "scout.log").read_text()


def test_a_signal_during_a_turn_ends_everything_too(repository: Path, data: Path) -> None:
    with Demo(repository, data) as demo:
        demo.await_ready()
        with demo.client() as client:
            client.call(operations.POST, schema.PostMessage(channel="general", body=f"@scout {QUESTION}"))
        worker = demo.child("worker")
        wait_for(lambda: worker.children(), "turn")
        family = demo.family()
        began = time.monotonic()
        demo.signal(signal.SIGTERM)
        assert demo.wait() == 0
        assert time.monotonic() - began < STOPPED_WITHIN
        assert not living(family)


def test_a_port_that_is_taken_is_one_clear_line(repository: Path, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Demo(repository, data, taken.getsockname()[1]) as demo:
        assert demo.wait() != 0
        lines = demo.log().splitlines()
        assert len(lines) == 1
        assert f"port {demo.port} is taken" in lines[0]
        assert "--port" in lines[0]


def test_a_folder_in_use_is_one_clear_line(repository: Path, data: Path) -> None:
    with Demo(repository, data) as demo:
        demo.await_ready()
        with Demo(repository, data) as second:
            assert second.wait() != 0
            assert "is running in" in second.log().splitlines()[-1]
        assert demo.is_alive
        assert len(demo.messages()) == 2


def successors(demo: Demo, words: str, old: psutil.Process) -> list[psutil.Process]:
    return [each for each in demo.children(words) if each.pid != old.pid]


def test_a_server_or_a_worker_that_is_killed_comes_back(repository: Path, data: Path) -> None:
    with Demo(repository, data) as demo:
        demo.await_ready()
        for words in ("colony-server", "worker"):
            old = demo.child(words)
            old.kill()
            wait_for(partial(successors, demo, words, old), f"new {words}")
        wait_for(lambda: answers(demo), "server")
        before = len(demo.messages())
        with demo.client() as client:
            client.call(operations.POST, schema.PostMessage(channel="general", body=f"@scout {QUESTION}"))
        wait_for(lambda: len(demo.messages()) == before + 2, "answer", 2 * LONG)


def answers(demo: Demo) -> bool:
    try:
        return bool(demo.messages())
    except Exception:  # anything at all, while it starts
        return False


def test_everything_ends_with_a_demo_that_is_killed(repository: Path, data: Path) -> None:
    with Demo(repository, data) as demo:
        demo.await_ready()
        family = demo.family()
        assert len(family) >= 3
        demo.signal(signal.SIGKILL)
        demo.wait()
        wait_for(lambda: not living(family), "end of all")


def test_it_leaves_a_colony_file_of_somebody_else_alone(repository: Path, data: Path) -> None:
    file = repository / ".colony.toml"
    before = file.read_text() if file.exists() else None
    file.write_text('url = "https://colony.example"\n')
    try:
        with Demo(repository, data) as demo:
            demo.await_ready()
            assert file.read_text() == 'url = "https://colony.example"\n'
    finally:
        file.unlink()
        if before:
            file.write_text(before)


def test_a_folder_with_a_very_long_name_works_too(repository: Path, data: Path) -> None:
    long = data.parent / ("x" * 150)
    try:
        with Demo(repository, long) as demo:
            demo.await_ready()
    finally:
        shutil.rmtree(private_folder(f"demo {long}"))
