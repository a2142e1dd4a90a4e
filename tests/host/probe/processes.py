"""Attempts on processes."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .kernel import checked, syscall
from .refused import Refused

PTRACE_SEIZE = 0x4206
_BYTES = 16


def list_process(pid: str) -> None:
    if pid not in os.listdir("/proc"):
        raise Refused("not listed")


def list_others() -> None:
    """Any process of another user."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if os.stat(f"/proc/{name}").st_uid != os.geteuid():
            return
    raise Refused("not listed")


def find_in_arguments(word: str) -> None:
    """Look for a word among the arguments of all processes but those of this one's group."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if os.getpgid(int(name)) != os.getpgid(0) and word.encode() in Path("/proc", name, "cmdline").read_bytes():
                return
    raise Refused("not found")


def read_of(pid: str, name: str) -> None:
    if not Path("/proc", pid, name).read_bytes():
        raise Refused("it is empty")


def follow(pid: str, name: str) -> None:
    """Go through one of its links: cwd, root, exe, fd/0."""
    os.stat(f"/proc/{pid}/{name}")


def memory_of(pid: str, address: str) -> None:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(int(address))
        memory.read(_BYTES)


def copy_from(pid: str, address: str) -> None:
    """process_vm_readv."""
    buffer = ctypes.create_string_buffer(_BYTES)
    here, there = _Vector(ctypes.addressof(buffer), _BYTES), _Vector(int(address), _BYTES)
    syscall("process_vm_readv", int(pid), ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def trace(pid: str) -> None:
    syscall("ptrace", PTRACE_SEIZE, int(pid), 0, 0)


def take_descriptor(pid: str) -> None:
    """Its standard input, as an open file of one's own."""
    process = os.pidfd_open(int(pid))
    syscall("pidfd_getfd", process, 0, 0)


def trace_own() -> None:
    with _child() as child:
        trace(child)


def take_descriptor_of_own() -> None:
    with _child() as child:
        take_descriptor(child)


def copy_from_own() -> None:
    buffer = ctypes.create_string_buffer(_BYTES)
    copy_from(str(os.getpid()), str(ctypes.addressof(buffer)))


@contextmanager
def _child() -> Iterator[str]:
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        yield str(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def send_signal(pid: str) -> None:
    os.kill(int(pid), signal.SIGCONT)


def send_signal_by_descriptor(pid: str) -> None:
    signal.pidfd_send_signal(os.pidfd_open(int(pid)), signal.SIGCONT)


def set_limit_of(pid: str) -> None:
    limits = resource.prlimit(int(pid), resource.RLIMIT_NOFILE)
    resource.prlimit(int(pid), resource.RLIMIT_NOFILE, limits)


def set_priority_of(pid: str) -> None:
    os.setpriority(os.PRIO_PROCESS, int(pid), os.getpriority(os.PRIO_PROCESS, int(pid)))


def set_processors_of(pid: str) -> None:
    os.sched_setaffinity(int(pid), os.sched_getaffinity(int(pid)))


def doom(pid: str) -> None:
    """Make the kernel kill it first when memory is short."""
    file = Path("/proc", pid, "oom_score_adj")
    file.write_text(file.read_text())


def join(pid: str, kind: str) -> None:
    """Enter one of its namespaces."""
    with open(f"/proc/{pid}/ns/{kind}") as namespace:
        checked(ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0))


# --- bounds of one's own


def raise_own_limit() -> None:
    """Of the size of a core file, which is 0 for agents."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.prlimit(0, resource.RLIMIT_CORE, (soft, 4096 if hard == 0 else hard))


def hurry() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -5)


def run_in_real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def be_killed_before_others(score: str) -> None:
    """When memory is short; below 0: after them."""
    Path("/proc/self/oom_score_adj").write_text(score)


def make_cgroup(folder: str) -> None:
    os.mkdir(f"{folder}/another")
    os.rmdir(f"{folder}/another")


def list_cgroup(unit: str) -> None:
    """The numbers of a service's processes, from the cgroup file systems that are mounted."""
    os.listdir("/sys/fs/cgroup")
    for folder, _, names in os.walk("/sys/fs/cgroup"):
        if os.path.basename(folder) == unit and "cgroup.procs" in names:
            Path(folder, "cgroup.procs").read_text()
            return
    raise Refused("not listed")
