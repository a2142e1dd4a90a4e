"""Attempts on others who listen: the colony's server, systemd, the journal, sockets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from typing import Any

from .refused import Refused

_SECONDS = 3.0


def connect(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # the whole path may be longer than an address
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")


def connect_abstract(name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(f"\0{name}")


def connect_to(host: str, port: str) -> None:
    _line(f"{host}:{port}").close()


def ask(address: str, method: str, path: str, body: str = "", *headers: str) -> None:
    """An operation of the colony's server, over its socket or a port."""
    _asked(address, method, path, body, *headers)


def ask_past(past: str, *words: str) -> None:
    """The same; `past` is how the server refuses those who may."""
    try:
        ask(*words)
    except Refused as refused:
        if str(refused) != past:
            raise


def acknowledge(address: str, item: str) -> None:
    if not _asked(address, "POST", "/api/inbox/ack", json.dumps({"ids": [int(item)]}))["acked"]:
        raise Refused("nothing acknowledged")


def be_taken_for(address: str, username: str, *headers: str) -> None:
    """Whether the server takes the caller for that user."""
    found = _asked(address, "GET", "/api/whoami", "", *headers)["username"]
    if found != username:
        raise Refused(f"taken for {found}")


def call_tool(path: str, name: str, arguments: str) -> None:
    """One of a turn's tools."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": json.loads(arguments)}}
    with _line(path) as line, line.makefile("rw") as stream:
        stream.write(json.dumps(request) + "\n")
        stream.flush()
        result = json.loads(stream.readline()).get("result", {"isError": True, "content": [{"text": "no result"}]})
    if result.get("isError"):
        raise Refused(result["content"][0]["text"].partition(";")[0])


def call_bus(*words: str) -> None:
    """A method of systemd or of logind, over the system's bus."""
    _said_by(["busctl", "--system", "--no-pager", "call", *words])


def read_journal(*words: str) -> None:
    if "begins" not in _said_by(["journalctl", "--no-pager", "--quiet", *words]):
        raise Refused("it is empty")


def linger(user: str) -> None:
    """Have services of one's own, whether one is logged in or not."""
    _said_by(["loginctl", "enable-linger", user])
    _said_by(["loginctl", "disable-linger", user])


def tell_systemd(text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect("/run/systemd/notify")
        line.send(text.encode())


def _asked(address: str, method: str, path: str, body: str = "", *headers: str) -> dict[str, Any]:
    line = http.client.HTTPConnection("colony", timeout=_SECONDS)
    line.sock = _line(address)
    line.request(method, path, body.encode() or None, dict(header.split(": ", 1) for header in headers))
    answer = line.getresponse()
    said: dict[str, Any] = json.loads(answer.read())
    if answer.status >= 400:
        raise Refused(f"{answer.status} {said.get('code')}")
    return said


def _line(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if host:
        try:
            return socket.create_connection((host, int(port)), _SECONDS)
        except TimeoutError:
            raise Refused("no answer") from None
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(_SECONDS)
    line.connect(address)
    return line


def _said_by(argv: list[str]) -> str:
    said = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if said.returncode:
        words = said.stderr.strip().splitlines() or ["no word"]
        raise Refused(words[-1].rstrip(".").rpartition(": ")[2])
    return said.stdout
