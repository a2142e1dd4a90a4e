"""Attempts from within a user namespace of one's own, in which one is root and holds all capabilities."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from . import files, kernel, processes, talk
from .kernel import checked, syscall
from .refused import Refused

_USER, _MOUNT, _CGROUP = 0x10000000, 0x00020000, 0x02000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 1 << 5, 1 << 12, 1 << 14, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def become_root_inside(more: int = _MOUNT) -> None:
    uid, gid = os.geteuid(), os.getegid()
    checked(_libc.unshare(_USER | more))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def inside(name: str, *arguments: str) -> None:
    """Any other attempt, as the root of a namespace."""
    found = [getattr(module, name) for module in (files, kernel, processes, talk) if hasattr(module, name)]
    become_root_inside()
    found[0](*arguments)


def uncover(path: str) -> None:
    """Take away what is mounted over a file, or on it."""
    become_root_inside()
    target = ctypes.create_string_buffer(path.encode())
    syscall("umount2", ctypes.addressof(target), 2)


def mount_and_uncover(folder: str) -> None:
    become_root_inside()
    kernel.mount_over(folder)


def mount_and_make_writable(path: str) -> None:
    """Of a file that one has made read-only oneself."""
    become_root_inside()
    _mount(path, path, "", _BIND)
    _mount("none", path, "", _BIND | _REMOUNT | _READ_ONLY)
    _mount("none", path, "", _BIND | _REMOUNT)
    files.open_to_write(path)


def bind_without_covers(folder: str, hidden: str) -> None:
    """See a folder somewhere else, without what is mounted in it."""
    become_root_inside()
    there = _room()
    _mount(folder, there, "", _BIND)
    _must_hold(os.path.join(there, hidden))


def overlay_without_covers(folder: str, hidden: str) -> None:
    """See a folder as the lower part of an overlay, which does not show what is mounted in it."""
    become_root_inside()
    room = _room()
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{room}/{name}")
    options = f"lowerdir={folder},upperdir={room}/upper,workdir={room}/work,userxattr"
    _mount("overlay", f"{room}/merged", "overlay", 0, options)
    _must_hold(f"{room}/merged/{hidden}")


def make_writable(path: str) -> None:
    """Mount it anew, this time to be written."""
    become_root_inside()
    _mount("none", path, "", _BIND | _REMOUNT)
    files.open_to_write(path) if os.path.isfile(path) else files.create_in(path)


def fresh_proc(pid: str) -> None:
    """Another /proc, one that hides nothing."""
    become_root_inside()
    there = _room()
    _mount("proc", there, "proc", 0)
    if pid not in os.listdir(there):
        raise Refused("not listed")


def fresh_cgroups(unit: str) -> None:
    """Another view of the cgroups, in which other services show."""
    become_root_inside(_MOUNT | _CGROUP)
    there = _room()
    _mount("cgroup2", there, "cgroup2", 0)
    if not any(unit in folders for _, folders, _ in os.walk(there)):
        raise Refused("not listed")


def loosen_own_cgroup() -> None:
    """Write one's own bound, in a cgroup file system of one's own."""
    become_root_inside(_MOUNT | _CGROUP)
    there = _room()
    _mount("cgroup2", there, "cgroup2", 0)
    processes.make_cgroup(there)


def _room() -> str:
    """A new folder in a tmpfs of one's own."""
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", 0)
    os.mkdir("/tmp/room")
    return "/tmp/room"


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [ctypes.create_string_buffer(word.encode()) for word in (source, target, kind, options)]
    addresses = [ctypes.addressof(word) for word in words]
    syscall("mount", addresses[0], addresses[1], addresses[2], flags, addresses[3])


def _must_hold(path: str) -> None:
    if not Path(path).read_bytes():
        raise Refused("it is empty")
