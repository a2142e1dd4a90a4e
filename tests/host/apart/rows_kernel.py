"""Attempts on the machine itself: privileges, namespaces, devices, the kernel."""

from __future__ import annotations

from tests.host.apart.guards import Guard as G
from tests.host.apart.table import Attempt, By, Refusal, Who

_AGENT = (Who.SERVICE, Who.TURN)
_CONFINED = (*_AGENT, Who.SERVER)
_FILTERED: dict[Who, Refusal] = dict.fromkeys(_AGENT, ("EPERM", G.CALLS))
_GAINED: dict[Who, Refusal] = dict.fromkeys(_CONFINED, ("nothing gained", G.PRIVILEGES))
_UNABLE: dict[Who, Refusal] = dict.fromkeys((*_AGENT, Who.STRANGER), ("EPERM", G.CAPABILITY))
_UNABLE_INSIDE: dict[Who, Refusal] = dict.fromkeys(_AGENT, ("EPERM", G.CAPABILITY))
_NOBODY: dict[Who, Refusal] = {Who.SERVICE: ("EACCES", G.NAMESPACE), Who.STRANGER: ("EACCES", G.NAMESPACE)}
_SETUID = ("gain_by", "/usr/local/lib/setuid-python", "-I", "-c", "import os; print(os.geteuid(), os.getegid())")
_SETGID = ("gain_by", "/usr/local/lib/setgid-python", *_SETUID[2:])

PRIVILEGES = [
    Attempt("become root by a setuid program", _SETUID, _GAINED, By.STRANGER),
    Attempt("join a group by a setgid program", _SETGID, _GAINED, By.STRANGER),
    Attempt("gain the capabilities of a file", ("gain_capabilities_by", "/usr/local/lib/capable-cat"), _GAINED, By.STRANGER),
    Attempt(
        "become root by a setuid program in a namespace",
        ("inside", *_SETUID),
        dict.fromkeys(_AGENT, ("nothing gained", G.PRIVILEGES)) | {Who.STRANGER: ("nothing gained", G.NAMESPACE)},
        By.STRANGER,
        _SETUID,
    ),
    Attempt("leave a setuid program behind", ("make_setuid", "$room"), dict.fromkeys(_CONFINED, ("EPERM", G.SETUID)), By.STRANGER),
    Attempt("make a device", ("make_device", "$room"), _UNABLE),
    Attempt("make a device in a namespace", ("inside", "make_device", "$room"), _UNABLE, works_as=("make_device", "$room")),
    Attempt("mount something", ("mount_over", "/usr/src"), _UNABLE | {Who.SERVER: ("EPERM", G.CAPABILITY)}),
    Attempt("make a user namespace", ("become_root_inside",), {Who.SERVER: ("EPERM", G.NAMESPACES)}, By.STRANGER),
    Attempt(
        "write the accounts as the root of a namespace",
        ("inside", "open_to_write", "/etc/passwd"),
        _NOBODY | {Who.TURN: ("EROFS", G.SANDBOX)},
        works_as=("open_to_write", "/etc/passwd"),
    ),
    Attempt(
        "read the passwords as the root of a namespace",
        ("inside", "read", "/etc/shadow"),
        _NOBODY | {Who.TURN: ("ENOENT", G.SANDBOX)},
        works_as=("read", "/etc/shadow"),
    ),
    Attempt(
        "signal the other as the root of a namespace",
        ("inside", "send_signal", "$pid"),
        {Who.SERVICE: ("EPERM", G.NAMESPACE), Who.TURN: ("ESRCH", G.PIDS), Who.STRANGER: ("EPERM", G.NAMESPACE)},
        works_as=("send_signal", "$pid"),
    ),
]

KERNEL = [
    Attempt("read the kernel's log", ("read_kernel_log",), _UNABLE_INSIDE | {Who.SERVER: ("EPERM", G.CAPABILITY)}, By.MACHINE),
    Attempt("open a device of the machine", ("see", "/dev/net/tun"), {Who.SERVICE: ("ENOENT", G.DEVICES), Who.TURN: ("ENOENT", G.SANDBOX)}),
    Attempt(
        "set a sysctl",
        ("set_sysctl", "vm/swappiness"),
        {Who.SERVICE: ("EROFS", G.TUNABLES), Who.TURN: ("EACCES", G.MODE)},
        By.MACHINE,
    ),
    Attempt("load a kernel module", ("reach", "ENOEXEC ENOSYS", "init_module", "0", "0", "0"), _UNABLE_INSIDE, By.MACHINE),
    Attempt("load a BPF program", ("reach", "EINVAL", "bpf", "0", "0", "0"), _FILTERED, By.MACHINE),
    Attempt("watch by perf events", ("reach", "EFAULT", "perf_event_open", "0", "0", "0", "0", "0"), _FILTERED, By.MACHINE),
    Attempt("set up io_uring", ("set_up_ring",), _FILTERED),
    Attempt("handle page faults", ("reach", "EINVAL", "userfaultfd", "65535"), _FILTERED, By.MACHINE),
    Attempt("open a file by its number on the disk", ("reach", "EFAULT EBADF", "open_by_handle_at", "0", "0", "0"), _FILTERED, By.MACHINE),
    Attempt("set the clock", ("reach", "EFAULT", "clock_settime", "0", "0"), _UNABLE_INSIDE, By.MACHINE),
    Attempt("swap to a file", ("reach", "EFAULT", "swapon", "0", "0"), _UNABLE_INSIDE, By.MACHINE),
    Attempt("reboot", ("reach", "EINVAL", "reboot", "0", "0", "0", "0"), _UNABLE_INSIDE, By.MACHINE),
    Attempt("name the machine", ("set_hostname",), _UNABLE),
    Attempt("run in another personality", ("personality", "8"), dict.fromkeys(_CONFINED, ("EPERM", G.PERSONALITY)), By.STRANGER),
    Attempt(
        "watch the network",
        ("watch_network",),
        dict.fromkeys(_CONFINED, ("EAFNOSUPPORT", G.FAMILIES)) | {Who.STRANGER: ("EPERM", G.CAPABILITY)},
    ),
    Attempt("forge packets", ("forge_packets",), _UNABLE | {Who.SERVER: ("EPERM", G.CAPABILITY)}),
]

ROWS = {"Privileges and namespaces": PRIVILEGES, "The kernel": KERNEL}
