"""Makes the place that podman starts a container from, then starts it and waits. Standard library only, as a script.

`container_stage DESCRIPTOR`, as the first process of new namespaces for users, mounts, processes and, behind a gate, the network: all that
is made here, podman's own storage included, is gone with the last process in there, however that ends. What to do is read from the
descriptor.

Whoever starts this may be root. So nothing is written but in the folder that was just mounted, by paths that are relative to it.
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
EMPTY = f"{PLACE}/empty"
RUNTIME = f"{PLACE}/crun"  # podman asks for its name
# An option would not do: podman forgets it for who cleans up.
_RUNTIME = f'#!/bin/sh\nexec crun --root {PLACE}/containers "$@"\n'
CGROUPS = "/sys/fs/cgroup"
STARTED = f"{PLACE}/started"  # podman writes the container's process there
COULD_NOT = "podman: the container did not start"
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def main(descriptor: int) -> int:
    if os.getpid() != 1:
        raise SystemExit(f"it is not the first process of its namespaces\n{COULD_NOT}")
    with open(descriptor) as pipe:
        order = json.load(pipe)
    _mount("tmpfs", "mode=0700", PLACE)
    os.chdir(PLACE)
    if not os.path.ismount(".") or os.listdir():
        raise SystemExit(f"{PLACE} is not the stage's own\n{COULD_NOT}")
    # Nobody is put anywhere else, and crun refuses to look at what is half v1 and half v2.
    _mount("tmpfs", "ro", CGROUPS)
    os.umask(0o022)
    os.mkdir("root")
    _fill("upper" if order["image"] else "root", order)
    if order["image"]:
        os.mkdir("work")
        _mount("overlay", f"userxattr,lowerdir={order['image']},upperdir={PLACE}/upper,workdir={PLACE}/work", ROOT)
    for name, text in {**order["settings"], "crun": _RUNTIME, "empty": ""}.items():
        _write("", name, text)
    os.chmod("crun", 0o700)
    if order["has_gate"]:
        _raise_loopback()
    code = _wait(_start(order["argv"], os.environ))
    if code and not os.path.exists(STARTED):
        print(COULD_NOT, file=sys.stderr, flush=True)
    return code


def _fill(base: str, order: Mapping[str, Any]) -> None:
    """What lies there from the start, and what something is mounted over: in an image's own folders only root could make that."""
    for path in order["folders"]:
        os.makedirs(_within(base, path), exist_ok=True)
    for path, text in order["files"].items():
        _write(base, path, text)
    for path, target in order["links"].items():  # the last: nothing is written through one
        os.symlink(target, _within(base, path))


def _write(base: str, path: str, text: str) -> None:
    file = _within(base, path)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "x") as opened:
        opened.write(text)


def _within(base: str, path: str) -> str:
    return os.path.join(".", base, path.lstrip("/"))


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
