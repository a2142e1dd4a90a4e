"""Makes the place that podman starts a container from, then starts it and waits. Standard library only, as a script.

`stage DESCRIPTOR`, as the first process of new namespaces for users, mounts, processes and, behind a gate, the network: all that is made
here, podman's own storage included, is gone with the last process in there, however that ends. What to do is read from the descriptor.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import json
import os
import struct
import sys
from _socket import AF_INET, SOCK_DGRAM, socket
from collections.abc import Mapping
from fcntl import ioctl
from typing import Any

PLACE = "/dev/shm"  # it is there on any Linux, and nobody's home is in it
ROOT = f"{PLACE}/root"  # what the container has as /
UPPER = f"{PLACE}/upper"  # what of it covers the image
EMPTY = f"{PLACE}/empty"
RUNTIME = f"{PLACE}/crun"  # podman asks for its name
# An option would not do: podman forgets it for who cleans up.
_RUNTIME = f'#!/bin/sh\nexec crun --root {PLACE}/containers "$@"\n'
CGROUPS = "/sys/fs/cgroup"
STARTED = f"{PLACE}/started"  # podman writes the container's process there
COULD_NOT = "podman: the container did not start"
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def main(descriptor: int) -> int:
    with open(descriptor) as pipe:
        order = json.load(pipe)
    _mount("tmpfs", "mode=0700", PLACE)
    # Nobody is put anywhere else, and crun refuses to look at what is half v1 and half v2.
    _mount("tmpfs", "ro", CGROUPS)
    os.umask(0o022)
    os.mkdir(ROOT)
    _fill(UPPER if order["image"] else ROOT, order)
    if order["image"]:
        os.mkdir(f"{PLACE}/work")
        _mount("overlay", f"userxattr,lowerdir={order['image']},upperdir={UPPER},workdir={PLACE}/work", ROOT)
    for path, text in {**order["settings"], RUNTIME: _RUNTIME, EMPTY: ""}.items():
        _write(path, text)
    os.chmod(RUNTIME, 0o700)
    if order["has_gate"]:
        _raise_loopback()
    code = _wait(_start(order["argv"], {**os.environ, **order["env"]}))
    if code and not os.path.exists(STARTED):
        print(COULD_NOT, file=sys.stderr, flush=True)
    return code


def _fill(base: str, order: Mapping[str, Any]) -> None:
    """What lies there from the start, and what something is mounted over: in an image's own folders only root could make that."""
    for path, target in order["links"].items():
        os.makedirs(base, exist_ok=True)
        os.symlink(target, f"{base}{path}")
    for path in order["folders"]:
        os.makedirs(f"{base}{path}", exist_ok=True)
    for path, text in order["files"].items():
        _write(f"{base}{path}", text)


def _write(path: str, text: str) -> None:
    if not path.startswith(f"{PLACE}/"):  # who is root outside would write the host's file
        sys.exit(f"mount: {path} lies outside of {PLACE}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def _raise_loopback() -> None:
    any_socket = socket(AF_INET, SOCK_DGRAM)
    ioctl(any_socket.fileno(), SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    any_socket.close()


def _mount(kind: str, options: str, path: str) -> None:
    """Raises `SystemExit` when that fails; it has said why."""
    if code := _wait(_start(["mount", "-t", kind, "-o", options, "colony", path], os.environ)):
        print(COULD_NOT, file=sys.stderr, flush=True)
        sys.exit(code)


def _start(argv: list[str], env: Mapping[str, str]) -> int:
    return os.posix_spawnp(argv[0], argv, env, setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ])  # which Python ignores


def _wait(child: int) -> int:
    """The exit code, as a shell has it. Who else ends meanwhile is nobody's child any more but this process's."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
