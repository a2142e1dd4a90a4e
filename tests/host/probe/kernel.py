"""Attempts on the kernel: calls that an agent has no use for."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket

# x86_64, aarch64
_NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_settime": (227, 112),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "msgget": (68, 186),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sethostname": (170, 161),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_libc = ctypes.CDLL(None, use_errno=True)


def syscall(name: str, *arguments: int) -> int:
    number = _NUMBERS[name][platform.machine() == "aarch64"]
    return checked(_libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def reach(past: str, name: str, *arguments: str) -> None:
    """Make a call with arguments that make no sense: with one of `past` the kernel says so to who may make it at all."""
    try:
        syscall(name, *map(int, arguments))
    except OSError as error:
        if errno.errorcode[error.errno or 0] not in past.split():
            raise


def read_kernel_log() -> None:
    buffer = ctypes.create_string_buffer(4096)
    syscall("syslog", 3, ctypes.addressof(buffer), 4096)


def set_up_ring() -> None:
    """io_uring, whose calls no filter sees."""
    buffer = ctypes.create_string_buffer(256)
    syscall("io_uring_setup", 1, ctypes.addressof(buffer))


def use_keyring() -> None:
    """KEYCTL_GET_KEYRING_ID of the session's keyring."""
    syscall("keyctl", 0, -3, 1)


def personality(number: str) -> None:
    syscall("personality", int(number))


def set_hostname() -> None:
    name = ctypes.create_string_buffer(os.uname().nodename.encode())
    syscall("sethostname", ctypes.addressof(name), len(name.value))


def mount_over(folder: str) -> None:
    """Mount an empty file system, and take it away again."""
    target = ctypes.create_string_buffer(folder.encode())
    kind = ctypes.create_string_buffer(b"tmpfs")
    syscall("mount", ctypes.addressof(kind), ctypes.addressof(target), ctypes.addressof(kind), 0, 0)
    syscall("umount2", ctypes.addressof(target), 2)


def set_sysctl(name: str) -> None:
    path = f"/proc/sys/{name}"
    with open(path) as file:
        value = file.read()
    with open(path, "w") as file:
        file.write(value)


def watch_network() -> None:
    """Every packet of the machine."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300).close()


def forge_packets() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
