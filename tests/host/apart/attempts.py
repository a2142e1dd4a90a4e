"""All attempts, by what they are after; and what is left open."""

from __future__ import annotations

from tests.host.apart import rows_files, rows_gate, rows_kernel, rows_processes, rows_talk
from tests.host.apart.table import Attempt, Open, Who

SECTIONS: dict[str, list[Attempt]] = rows_files.ROWS | rows_processes.ROWS | rows_talk.ROWS | rows_gate.ROWS | rows_kernel.ROWS
ATTEMPTS = [attempt for attempts in SECTIONS.values() for attempt in attempts]

_AS_ALL = (
    "so it is with every process of a Linux machine, unless its /proc is mounted with `hidepid`; arguments hold neither messages nor keys"
)
OPEN = [
    Open("list agents' processes", ("list_process", "$pid"), Who.STRANGER, _AS_ALL),
    Open("read agents' arguments", ("read_of", "$pid", "cmdline"), Who.STRANGER, _AS_ALL),
    Open("have systemd tell agents' arguments", rows_talk.ARGUMENTS, Who.STRANGER, _AS_ALL),
    Open(
        "make a user namespace",
        ("become_root_inside",),
        Who.SERVICE,
        "bubblewrap makes the sandbox of one; it gives no power outside of it",
    ),
    Open("make a user namespace", ("become_root_inside",), Who.TURN, "its root is nobody outside of it, and what is covered stays covered"),
    Open("read the units", ("read", "/etc/systemd/system/agent-rook-worker.service"), Who.SERVICE, "they hold no secret"),
]
