"""`make run`: a small colony on this machine, without root or systemd. One server, one agent, one question, and it stays up."""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from colony import config, errors, files, operations, schema, show
from colony.client import Client
from colony.lifeline import StopSignals
from colony_agent.supervisor import Supervisor
from provisioning import home as homes
from provisioning import soul as souls

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
AGENT = "scout"
QUESTION = f"@{AGENT} where are inbox items created?"
START_SECONDS = 20.0
ANSWER_SECONDS = 90.0
STOP_SECONDS = 2.5
MARK = "# written by `make run`; delete it to reach another colony from here\n"


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=config.DEFAULT_PORT, show_default=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "var", help="Where everything is kept.")
def demo(port: int, data: Path) -> None:
    """Run a small colony, ask its agent one question, and stay up until Ctrl-C."""
    stop = StopSignals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    data = data.absolute()
    socket = _socket(data)
    _require_tools()
    with _alone_in(data), Supervisor(data / "log", STOP_SECONDS) as supervisor:
        server = ["--home", str(data), "run", "--port", str(port), "--socket", str(socket)]
        supervisor.start("server", [str(BIN / "colony-server"), *server])
        with Client(f"unix:{socket}") as client:
            _await_server(client, supervisor, stop)
            _point_here(socket)
            kind = _prepare_agent(client, data / "agents" / AGENT, f"unix:{socket}")
            supervisor.start(AGENT, [str(BIN / "colony-agent"), "worker", "--home", str(data / "agents" / AGENT)])
            if not stop.is_set():
                click.echo(f"{AGENT} is {kind}\n", err=True)
                _converse(client, supervisor, stop)
        if not stop.is_set():
            _tell(port)
        stop.wait()
        click.echo("stopping", err=True)


def main() -> None:
    """Run it; a `ColonyError` becomes one line on stderr and its exit code."""
    try:
        demo(prog_name="make run")
    except errors.ColonyError as error:
        click.echo(f"make run: {error.detail}", err=True)
        sys.exit(error.exit_code)


def _require_tools() -> None:
    for tool, package in (("bwrap", "bubblewrap"), ("git", "git")):
        if not shutil.which(tool):
            raise errors.Unavailable(f"{tool} is missing: sudo apt-get install {package}")


@contextmanager
def _alone_in(data: Path) -> Iterator[None]:
    """Hold the folder: two small colonies on one database would be one too many."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(data / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Unavailable(f"a colony is running in {data} already; stop it, or name another folder with --data") from None
        yield


def _socket(data: Path) -> Path:
    """In the data folder, or in the temporary one where the kernel would find that path too long."""
    path = data / "run" / "api.sock"
    if len(str(path)) <= 100:
        return path
    return files.private_folder(f"demo {data}") / "api.sock"


def _await_server(client: Client, supervisor: Supervisor, stop: StopSignals) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.call(operations.WHOAMI, schema.Whoami())
            return
        except errors.Unavailable as error:
            if supervisor.has_failed("server") or time.monotonic() > deadline:
                raise errors.Unavailable(supervisor.last_words("server").removeprefix("colony-server: ") or error.detail) from error
            if stop.wait(0.02):
                sys.exit(0)


def _prepare_agent(client: Client, path: Path, url: str) -> str:
    """Bring ape and agent to life where they are not; says what thinks for the agent."""
    _ensure_user(client, _ape(), "ape", linux_user=getpass.getuser())
    _ensure_user(client, AGENT, "agent")
    is_claude = bool(os.environ.get("ANTHROPIC_API_KEY"))
    if is_claude and not (BIN / "claude").exists():
        raise errors.Unavailable("ANTHROPIC_API_KEY is set, but Claude Code is not in .venv; run `make run` again to install it")
    soul = souls.load(ROOT / "souls" / ("scout.md" if is_claude else "librarian.md"))
    python = os.path.realpath("/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable)
    thinks: dict[str, object] = (
        {"runner": "claude", "claude": str(BIN / "claude")}
        if is_claude
        else {"runner": "command", "command": [python, "-I", *soul.command]}
    )
    connection = _connection(client, path, url)
    (path / config.PROJECT_FILE).unlink(missing_ok=True)  # the key may have come or gone since
    if not is_claude:  # it only reads its clone: a new one shows it today's files
        shutil.rmtree(path / "repo", ignore_errors=True)
    repo = str(ROOT) if (ROOT / ".git").exists() else None
    homes.prepare(path, soul.text, connection, {"name": AGENT, **thinks, "repo": "repo"}, repo)
    agent = next(each for each in client.call(operations.AGENTS, schema.ListAgents()).agents if each.username == AGENT)
    if agent.status in ("provisioning", "healthy"):  # for a healthy one it ends a hold: perhaps the key has been mended
        client.call(operations.SET_STATUS, schema.SetStatus(agent=AGENT, status="healthy"))
    return "Claude Code" if is_claude else "the librarian, which searches but is no language model (set ANTHROPIC_API_KEY for Claude Code)"


def _connection(client: Client, path: Path, url: str) -> dict[str, str]:
    """How the agent reaches the server. It shares its Linux user with the ape here, so that a token must tell them apart."""
    known = config.read_toml(path / config.PROJECT_FILE)
    if token := known.get("token"):
        try:
            with Client(url, token) as agent:
                agent.call(operations.WHOAMI, schema.Whoami())
            return {"url": url, "token": token}
        except errors.Unauthenticated:
            pass
    return {"url": url, "token": client.call(operations.ISSUE_TOKEN, schema.IssueToken(username=AGENT)).token}


def _ape() -> str:
    """The name of whoever runs this, as a colony's username."""
    name = re.sub(r"[^a-z0-9_-]", "-", getpass.getuser().lower())[:31]
    return name if re.match("[a-z]", name) else f"u{name}"[:31]


def _ensure_user(client: Client, username: str, kind: schema.Kind, linux_user: str | None = None) -> None:
    if username not in {user.username for user in client.call(operations.USERS, schema.ListUsers()).users}:
        client.call(operations.CREATE_USER, schema.CreateUser(username=username, kind=kind, linux_user=linux_user))


def _point_here(socket: Path) -> None:
    """Let `colony` find this server from within the repository."""
    file = ROOT / config.PROJECT_FILE
    if not file.exists() or file.read_text().startswith(MARK):
        file.write_text(f'{MARK}url = "unix:{socket}"\n')


def _converse(client: Client, supervisor: Supervisor, stop: StopSignals) -> None:
    asked = client.call(operations.POST, schema.PostMessage(channel="general", body=QUESTION))
    began, since = time.monotonic(), asked.seq - 1
    while not stop.is_set() and time.monotonic() - began < ANSWER_SECONDS:
        found = client.call(operations.READ, schema.ReadMessages(channel="general", since=since, wait=1))
        if found.messages:
            since = found.messages[-1].seq
            show.show(found, is_json=False)
        if any(message.reply_to == asked.id or message.type == "notice" for message in found.messages):
            return
    if not stop.is_set():
        click.echo(f"no answer yet; {supervisor.log('scout')} says why: {supervisor.last_words('scout')}", err=True)


def _tell(port: int) -> None:
    colony = os.path.relpath(BIN / "colony")
    click.echo(f"\nready: http://127.0.0.1:{port}")
    for words in (f'post general "{QUESTION}"', "read general --follow", "agents"):
        click.echo(f"  {colony} {words}")


if __name__ == "__main__":
    main()
