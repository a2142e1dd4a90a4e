"""TLS in front of a colony, as the Caddyfile has it: what must pass, and what must not."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from colony import operations, schema
from tests.server.cast import token_of
from tests.server.machine import die_with_parent, free_port
from tests.server.serving import Server

CADDYFILE = Path(__file__).parents[1] / "Caddyfile"
COLONY = Path(sys.executable).with_name("colony")
SOON = 30.0  # seconds, on a busy machine
# Tests may bind no low port, trust no new authority, and run beside another Caddy.
WITHIN_TESTS = f"{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\nimport {CADDYFILE}\n"


@dataclass(frozen=True)
class Front:
    """A Caddy in front of a server."""

    url: str
    authority: Path  # the certificate to trust
    server: Server

    def http(self, name: str, **more: object) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token_of(name)}", "Accept": "application/json"}
        trusted = ssl.create_default_context(cafile=str(self.authority))
        return httpx.Client(base_url=self.url, headers=headers, verify=trusted, trust_env=False, timeout=60)

    def colony(self, name: str, *words: str, trusts: bool = True) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.authority.parent), "COLONY_URL": self.url, "COLONY_TOKEN": token_of(name)}
        if trusts:
            environ["SSL_CERT_FILE"] = str(self.authority)
        return subprocess.run([COLONY, *words], env=environ, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def front(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    if not shutil.which("caddy"):
        reason = "caddy is missing: apt-get install caddy"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder, port, server = tmp_path_factory.mktemp("caddy"), free_port(), Server(sqlite_file)
    (folder / "Caddyfile").write_text(WITHIN_TESTS)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COLONY_SITE": f"https://localhost:{port}",
        "COLONY_UPSTREAM": f"127.0.0.1:{server.port}",
    }
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    try:
        server.start()
        with (folder / "log").open("wb") as log:
            caddy = subprocess.Popen(command, env=environ, stderr=log, preexec_fn=die_with_parent)
        try:
            found = Front(f"https://localhost:{port}", folder / ".local/share/caddy/pki/authorities/local/root.crt", server)
            await_answer(found, caddy, folder / "log")
            yield found
        finally:
            caddy.terminate()
            caddy.wait(SOON)
    finally:
        server.close()


def await_answer(front: Front, caddy: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SOON
    while True:
        try:
            with front.http("ann") as http:
                assert http.get("/healthz").is_success
                return
        except (httpx.TransportError, OSError):
            assert caddy.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def test_the_file_is_one_that_caddy_takes() -> None:
    said = subprocess.run(["caddy", "validate", "--adapter", "caddyfile", "--config", CADDYFILE], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "Valid configuration" in said.stderr + said.stdout
    assert subprocess.run(["caddy", "fmt", CADDYFILE], capture_output=True, text=True).stdout == CADDYFILE.read_text()


def test_whoever_trusts_the_authority_can_talk(front: Front) -> None:
    posted = front.colony("ann", "post", "general", "through TLS")
    assert posted.returncode == 0, posted.stderr
    assert "through TLS" in front.colony("bob", "read", "general").stdout


def test_whoever_does_not_trust_it_sends_no_token(front: Front) -> None:
    refused = front.colony("ann", "whoami", trusts=False)
    assert refused.returncode == 8
    assert "certificate" in refused.stderr.lower()


def test_nobody_is_an_administrator_by_coming_through_it(front: Front) -> None:
    with httpx.Client(base_url=front.url, verify=ssl.create_default_context(cafile=str(front.authority)), trust_env=False) as stranger:
        assert stranger.get("/api/whoami").status_code == 401
        assert stranger.get("/api/whoami", headers={"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "root"}).status_code == 401


def test_a_long_poll_lasts_as_long_as_it_may(front: Front) -> None:
    with front.http("ann") as http:
        began = time.monotonic()
        answer = http.get("/api/inbox", params={"wait": schema.MAX_WAIT_SECONDS})
        assert answer.json()["items"] == []
        assert time.monotonic() - began > schema.MAX_WAIT_SECONDS - 1


def test_events_come_one_by_one_and_the_server_hears_when_the_reader_leaves(front: Front) -> None:
    came: list[str] = []
    is_open, is_there = threading.Event(), threading.Event()

    def follow() -> None:
        with front.http("ann") as http, http.stream("GET", "/api/events", headers={"Accept": "text/event-stream"}) as stream:
            is_open.set()
            for line in stream.iter_lines():
                came.append(line)
                if "while it is open" in line:
                    is_there.set()
                    return

    reader = threading.Thread(target=follow)
    reader.start()
    assert is_open.wait(SOON)
    with front.server.client(token_of("bob")) as bob:
        bob.call(operations.POST, schema.PostMessage(channel="general", body="while it is open"))
    assert is_there.wait(SOON), came
    reader.join(SOON)
    deadline = time.monotonic() + 60
    while streams(front):
        assert time.monotonic() < deadline, "the server still sends to somebody who has left"
        time.sleep(0.2)


def test_what_is_too_large_is_refused_as_without_it(front: Front) -> None:
    with front.http("ann") as http:
        answer = http.post("/api/channels/general/messages", content=b"x" * 2_000_000, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413


def streams(front: Front) -> int:
    """How many streams of events the server has open."""
    with front.http("ann") as http:
        metrics = http.get("/metrics").text
    [count] = re.findall(r"^colony_streams_open\{\} ([0-9]+)", metrics, re.MULTILINE)
    return int(count)
