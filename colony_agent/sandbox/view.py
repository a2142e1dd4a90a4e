"""What every sandbox shows of the host, and what it makes up instead."""

from __future__ import annotations

import os
from pathlib import Path

from colony.failures import CRASHED
from colony_agent.runner import RunnerFailed
from colony_agent.settings import Home

# Not the whole of /etc/ssl: a root outside reads its private keys as the agent inside.
ETC = (
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/pki/tls/certs"),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives"),
)
HONEYTOKEN = Path("/run/secrets/colony-admin-token")  # where who looks for credentials looks
ROOT_LINKS = tuple(map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))  # into /usr, unless the host is not merged


def links() -> dict[Path, Path]:
    """Those at the root, with what they lead to."""
    return {path: path.readlink() for path in ROOT_LINKS if path.is_symlink()}


def system() -> list[Path]:
    """What a sandbox that has no image of its own shows, to be read."""
    folders = [path for path in ROOT_LINKS if path.is_dir() and not path.is_symlink()]
    return [Path("/usr"), *folders, *(path for path in map(Path, ETC) if path.exists())]


def is_system(path: Path) -> bool:
    """Whether it lies where `system`, or an image, has its own."""
    return any(path.is_relative_to(place) for place in (Path("/usr"), *ROOT_LINKS))


def passwd(home: Home, uid: int) -> str:
    return f"{home.agent.name}:x:{uid}:{uid}::{home.path.absolute()}:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"


def group(home: Home, gid: int) -> str:
    return f"{home.agent.name}:x:{gid}:\nnogroup:x:65534:\n"


def uid() -> int:
    """What is root's outside looks like an ordinary user's inside."""
    return os.getuid() or 1000


def existing(file: Path) -> Path:
    """The file, created empty if it is missing: only what exists can be covered. Raises `RunnerFailed`."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise RunnerFailed(CRASHED, f"can't cover {file} in the sandbox: {error.strerror}") from error
    return file


def in_memory(text: str) -> int:
    """A descriptor from which it can be read."""
    descriptor = os.memfd_create("colony")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
