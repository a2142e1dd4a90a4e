"""Synapse, the Matrix server, on SQLite, with a room that everybody has joined."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from bench import wire
from bench.figures import Missing
from bench.processes import REPOSITORY, running

PINS = REPOSITORY / "requirements" / "synapse.lock"
FOLDER = REPOSITORY / ".synapse"  # an environment of its own, which the first run makes: it needs other versions than ours
INSTALL_SECONDS = 900
SYNC_MILLISECONDS = 25_000
_NOTHING = {"not_types": ["*"]}
_ONLY_MESSAGES = quote(json.dumps({"presence": _NOTHING, "room": {"timeline": {"limit": 10}, "ephemeral": _NOTHING}}))


class Synapse:
    """A running server. Its answers are awaited by `/sync`, as every client of Matrix does."""

    name = "Synapse"

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s.sock"
        self._secret = secrets.token_hex(16)
        self._numbers = count()
        self._tokens: list[str] = []
        self._speaker = self._room = ""
        (folder / "log.yaml").write_text("version: 1\ndisable_existing_loggers: false\n")
        (folder / "homeserver.yaml").write_text(json.dumps(self._config(folder)))  # which is YAML, too

    @classmethod
    @contextmanager
    def room(cls, folder: Path, listeners: int) -> Iterator[Self]:
        """A server with one speaker and so many listeners in a room. Raises `Missing` where it can't be installed."""
        python = _installed()
        peer = cls(folder)
        argv: list[str | Path] = [python, "-m", "synapse.app.homeserver", "-c", folder / "homeserver.yaml"]
        with running(argv, folder / "output", ready=peer._answers):
            peer._furnish(listeners)
            yield peer

    def listen(self, listener: int, since: Any) -> bytes:
        query = f"filter={_ONLY_MESSAGES}" + ("" if since is None else f"&since={since}&timeout={SYNC_MILLISECONDS}")
        return wire.request("GET", f"/_matrix/client/v3/sync?{query}", self._tokens[listener])

    def heard(self, answer: Any) -> tuple[Any, int]:
        rooms = answer.get("rooms", {}).get("join", {})
        return answer["next_batch"], sum(len(room["timeline"]["events"]) for room in rooms.values())

    def say(self, text: str) -> bytes:
        path = f"/_matrix/client/v3/rooms/{quote(self._room)}/send/m.room.message/{next(self._numbers)}"
        return wire.request("PUT", path, self._speaker, {"msgtype": "m.text", "body": text})

    def _config(self, folder: Path) -> dict[str, Any]:
        unlimited = {"per_second": 100_000, "burst_count": 100_000}
        return {
            "server_name": "bench.invalid",
            "report_stats": False,
            "pid_file": str(folder / "pid"),
            "log_config": str(folder / "log.yaml"),
            "media_store_path": str(folder / "media"),
            "signing_key": f"ed25519 bench {base64.b64encode(secrets.token_bytes(32)).decode().rstrip('=')}",
            "registration_shared_secret": self._secret,
            "bcrypt_rounds": 4,
            "presence": {"enabled": False},
            "trusted_key_servers": [],
            "database": {"name": "sqlite3", "args": {"database": str(folder / "synapse.db")}},
            "listeners": [{"path": str(self.socket), "type": "http", "resources": [{"names": ["client"]}]}],
            **dict.fromkeys(("rc_message", "rc_registration"), unlimited),
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), unlimited),
            "rc_joins": {"local": unlimited, "remote": unlimited},
            "rc_joins_per_room": unlimited,
            "rc_room_creation": unlimited,
        }

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self._ask("GET", "/_matrix/client/versions")
        except (OSError, RuntimeError):
            return False
        return True

    def _furnish(self, listeners: int) -> None:
        self._speaker = self._registered("speaker")
        self._tokens = [self._registered(f"listener{place}") for place in range(listeners)]
        made = self._ask("POST", "/_matrix/client/v3/createRoom", self._speaker, {"preset": "public_chat"})
        self._room = made["room_id"]
        for token in self._tokens:
            self._ask("POST", f"/_matrix/client/v3/join/{quote(self._room)}", token, {})

    def _registered(self, name: str) -> str:
        """The token of a new user (https://element-hq.github.io/synapse/latest/admin_api/register_api.html)."""
        path, password = "/_synapse/admin/v1/register", secrets.token_hex(8)
        nonce = self._ask("GET", path)["nonce"]
        mac = hmac.new(self._secret.encode(), "\0".join([nonce, name, password, "notadmin"]).encode(), hashlib.sha1).hexdigest()
        fields = {"nonce": nonce, "username": name, "password": password, "admin": False, "mac": mac}
        return str(self._ask("POST", path, None, fields)["access_token"])

    def _ask(self, method: str, path: str, token: str | None = None, fields: dict[str, Any] | None = None) -> Any:
        connection = wire.Connection(self.socket)
        try:
            return connection.ask(wire.request(method, path, token, fields))
        finally:
            connection.close()


def _installed() -> Path:
    """The Python that has it; made on the first call. Raises `Missing`."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed"
    if stamp.exists() and stamp.read_bytes() == PINS.read_bytes():
        return python
    print("installing Synapse into .synapse (once; some minutes)", file=sys.stderr, flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True, capture_output=True, timeout=INSTALL_SECONDS)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--require-hashes", "-r", PINS]
        subprocess.run(pip, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"Synapse is not installed and could not be: {error}") from error
    stamp.write_bytes(PINS.read_bytes())
    return python
