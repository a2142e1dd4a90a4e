"""Whether the kernel filters the addresses that a service may reach. Some machines ignore IPAddressDeny=, and say nothing."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

from provisioning.checks import cgroup
from provisioning.checks.finding import HOST, Finding, Findings, Unseen
from provisioning.checks.scene import Scene
from provisioning.host.files import GATE, SERVER

# bpf(2), which no library of Python's speaks: its number by machine, BPF_PROG_QUERY, BPF_CGROUP_INET_EGRESS.
_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_QUERY, _EGRESS = 16, 1
_ATTRIBUTES = "=IIIIQI"  # where, what, two flags, where the programs' ids go, how many have room
_COUNT_AT = 24
_MOST = 64


def of_server(scene: Scene) -> Findings:
    """The server speaks with this machine only, unless its database is elsewhere."""
    scene.require_root()
    if not scene.settings.database_host:
        yield from _of_service(scene, HOST, SERVER, f"systemctl restart {SERVER}")


def of_gate(scene: Scene) -> Findings:
    """The gate reaches no address of this network segment, whatever it is asked for."""
    scene.require_root()
    yield from _of_service(scene, HOST, GATE, f"systemctl restart {GATE}")


def is_filtered(folder: Path) -> bool:
    """Whether a program of the kernel's looks at what the cgroup sends. Raises `OSError`."""
    number = _BPF.get(platform.machine())
    if number is None:
        raise Unseen(f"nobody knows how to ask the kernel of a {platform.machine()}")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ids = (ctypes.c_uint32 * _MOST)()
        attributes = ctypes.create_string_buffer(struct.pack(_ATTRIBUTES, descriptor, _EGRESS, 0, 0, ctypes.addressof(ids), _MOST), 128)
        if ctypes.CDLL(None, use_errno=True).syscall(number, _QUERY, attributes, len(attributes)) < 0:
            raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
    return bool(struct.unpack_from("=I", attributes, _COUNT_AT)[0])


def _of_service(scene: Scene, subject: str, service: str, restart: str) -> Findings:
    state = scene.systemd.state(service)
    if state.active != "active" or not state.pid:
        return
    folder = cgroup.folder(state.pid)
    if folder is None or not is_filtered(folder):
        needed = "cgroup v2, and a kernel with CONFIG_CGROUP_BPF that lets systemd use bpf"
        yield Finding(subject, f"nothing keeps {service} from the addresses that its unit denies it: that takes {needed}", restart)
