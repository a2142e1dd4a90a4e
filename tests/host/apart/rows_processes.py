"""Attempts on processes, on what they share, and on one's own bounds."""

from __future__ import annotations

from tests.host.apart.guards import Guard as G
from tests.host.apart.table import Attempt, By, Refusal, Who

_UNSEEN: dict[Who, Refusal] = {Who.SERVICE: ("ENOENT", G.PROCESSES), Who.TURN: ("ENOENT", G.PIDS), Who.SERVER: ("ENOENT", G.PROCESSES)}
_UNLISTED: dict[Who, Refusal] = {who: ("not listed", guard) for who, (_, guard) in _UNSEEN.items()}
_LOOK = _UNSEEN | {Who.STRANGER: ("EACCES", G.OWNER)}
_TOUCH: dict[Who, Refusal] = {
    Who.SERVICE: ("EPERM", G.OWNER),
    Who.TURN: ("ESRCH", G.PIDS),
    Who.STRANGER: ("EPERM", G.OWNER),
    Who.SERVER: ("EPERM", G.OWNER),
}
_FILTERED: dict[Who, Refusal] = dict.fromkeys((Who.SERVICE, Who.TURN, Who.SERVER), ("EPERM", G.CALLS)) | {Who.STRANGER: ("EPERM", G.OWNER)}
_APART: dict[Who, Refusal] = dict.fromkeys((Who.SERVICE, Who.TURN, Who.STRANGER, Who.SERVER), ("ENOENT", G.OTHERS_IPC))
_ALLS: dict[Who, Refusal] = {Who.SERVICE: ("ENOENT", G.IPC), Who.TURN: ("ENOENT", G.SANDBOX), Who.SERVER: ("ENOENT", G.IPC)}
_OWN: dict[Who, Refusal] = dict.fromkeys((Who.SERVICE, Who.TURN, Who.SERVER), ("EPERM", G.CALLS))
_DENIED: dict[Who, Refusal] = dict.fromkeys(_TOUCH, ("EPERM", G.OWNER))
_UNABLE: dict[Who, Refusal] = dict.fromkeys((Who.SERVICE, Who.TURN, Who.STRANGER), ("EACCES", G.CAPABILITY))

ANOTHERS = [
    Attempt("list the other's processes", ("list_process", "$pid"), _UNLISTED),
    Attempt("list any process of others", ("list_others",), _UNLISTED, By.STRANGER),
    Attempt("list its own worker", ("list_process", "$scouts_worker"), {Who.TURN: ("not listed", G.PIDS)}, By.SCOUT),
    Attempt(
        "list the other's processes by its cgroup",
        ("list_cgroup", "agent-rook-worker.service"),
        {Who.SERVICE: ("EACCES", G.HIDDEN), Who.TURN: ("ENOENT", G.SANDBOX)},
    ),
    Attempt("read the other's arguments", ("read_of", "$pid", "cmdline"), _UNSEEN),
    Attempt(
        "find what the other was told in arguments",
        ("find_in_arguments", "plover"),
        dict.fromkeys((Who.SERVICE, Who.TURN, Who.STRANGER), ("not found", G.NO_ARGUMENTS)),
        By.STRANGER,
        ("find_in_arguments", "victim.py"),
    ),
    Attempt("read the other's environment", ("read_of", "$pid", "environ"), _LOOK),
    Attempt("read the other's memory by /proc", ("memory_of", "$pid", "$address"), _LOOK),
    Attempt("copy from the other's memory", ("copy_from", "$pid", "$address"), _DENIED | {Who.TURN: ("EPERM", G.CALLS)}),
    Attempt("look into the other's open files", ("follow", "$pid", "fd/0"), _LOOK),
    Attempt("go through the other's working folder", ("follow", "$pid", "cwd/."), _LOOK),
    Attempt("go through the other's root", ("follow", "$pid", "root/tmp"), _LOOK),
    Attempt("enter the other's namespaces", ("join", "$pid", "mnt"), _LOOK),
    Attempt("trace the other's process", ("trace", "$pid"), _DENIED | {Who.TURN: ("EPERM", G.CALLS)}),
    Attempt("take an open file from the other", ("take_descriptor", "$pid"), _TOUCH),
    Attempt("trace even a process of its own", ("trace_own",), _OWN, By.STRANGER),
    Attempt("take an open file even from a process of its own", ("take_descriptor_of_own",), _OWN, By.STRANGER),
    Attempt("copy from memory even of its own", ("copy_from_own",), {who: _OWN[who] for who in (Who.SERVICE, Who.TURN)}, By.STRANGER),
    Attempt("signal the other's process", ("send_signal", "$pid"), _TOUCH),
    Attempt("signal the other's worker", ("send_signal", "$worker"), _TOUCH),
    Attempt("signal the other by a descriptor", ("send_signal_by_descriptor", "$pid"), _TOUCH),
    Attempt("signal the server", ("send_signal", "$server"), {who: refusal for who, refusal in _TOUCH.items() if who is not Who.SERVER}),
    Attempt("signal root's processes", ("send_signal", "1"), {who: refusal for who, refusal in _TOUCH.items() if who is not Who.TURN}),
    Attempt("signal its own worker", ("send_signal", "$scouts_worker"), {Who.TURN: ("ESRCH", G.PIDS)}, By.SCOUT),
    Attempt("change the other's limits", ("set_limit_of", "$pid"), _TOUCH, By.ROOK),
    Attempt("change the other's priority", ("set_priority_of", "$pid"), _TOUCH),
    Attempt("change the other's processors", ("set_processors_of", "$pid"), _TOUCH),
    Attempt("have the other killed first when memory is short", ("doom", "$pid"), _LOOK),
    Attempt(
        "see others in a /proc of its own",
        ("fresh_proc", "$pid"),
        {Who.SERVICE: ("EPERM", G.NAMESPACE), Who.TURN: ("EPERM", G.NAMESPACE)},
        works_as=("list_process", "$pid"),
    ),
    Attempt(
        "see others in a cgroup file system of its own",
        ("fresh_cgroups", "agent-rook-worker.service"),
        {Who.SERVICE: ("not listed", G.NAMESPACE), Who.TURN: ("not listed", G.NAMESPACE)},
        works_as=("list_cgroup", "agent-rook-worker.service"),
    ),
    Attempt(
        "type into root's terminal",
        ("open_to_write", "$terminal"),
        {
            Who.SERVICE: ("EACCES", G.MODE),
            Who.TURN: ("ENOENT", G.SANDBOX),
            Who.STRANGER: ("EACCES", G.MODE),
            Who.SERVER: ("EACCES", G.MODE),
        },
    ),
]

SHARED = [
    Attempt("attach the other's shared memory", ("attach_memory", "$key"), _APART, By.ROOK),
    Attempt("open the other's System V queue", ("open_system_v_queue", "$key"), _APART, By.ROOK),
    Attempt("open the other's POSIX queue", ("open_queue", "/rooks-queue"), _APART, By.ROOK),
    Attempt("attach shared memory that all may", ("attach_memory", "4343"), _ALLS, By.STRANGER),
    Attempt("open a System V queue that all may", ("open_system_v_queue", "4343"), _ALLS, By.STRANGER),
    Attempt("open a POSIX queue that all may", ("open_queue", "/everybodys"), _ALLS, By.STRANGER),
    Attempt("use the kernel's keyrings", ("use_keyring",), {Who.SERVICE: ("EPERM", G.CALLS), Who.TURN: ("EPERM", G.CALLS)}),
    Attempt(
        "connect to the other's abstract socket",
        ("connect_abstract", "rooks-socket"),
        dict.fromkeys((Who.SERVICE, Who.TURN, Who.STRANGER, Who.GATE), ("ECONNREFUSED", G.OTHERS_NETWORK)),
        By.ROOK,
    ),
    Attempt(
        "connect to the other's port",
        ("connect_to", "127.0.0.1", "$port"),
        dict.fromkeys((Who.SERVICE, Who.TURN, Who.STRANGER, Who.GATE), ("ECONNREFUSED", G.OTHERS_NETWORK)),
        By.ROOK,
    ),
    Attempt(
        "connect to the tools of the other's turn",
        ("connect", "$tools_of_rook"),
        {Who.SERVICE: ("ENOENT", G.TMP), Who.TURN: ("ENOENT", G.SANDBOX), Who.STRANGER: ("EACCES", G.MODE), Who.SERVER: ("ENOENT", G.TMP)},
    ),
]

BOUNDS = [
    Attempt("raise a hard limit", ("raise_own_limit",), {Who.SERVICE: ("EPERM", G.CORES), Who.TURN: ("EPERM", G.CORES)}),
    Attempt("take a better priority", ("hurry",), _UNABLE),
    Attempt("run in real time", ("run_in_real_time",), dict.fromkeys((Who.SERVICE, Who.TURN), ("EPERM", G.CAPABILITY)), By.MACHINE),
    Attempt("be spared when memory is short", ("be_killed_before_others", "-500"), _UNABLE, By.SCOUT, ("be_killed_before_others", "500")),
    Attempt(
        "write its own bounds",
        ("open_to_write", "$memory_bound"),
        {Who.SERVICE: ("EACCES", G.MODE), Who.TURN: ("ENOENT", G.SANDBOX), Who.STRANGER: ("EACCES", G.MODE)},
    ),
    Attempt(
        "leave its cgroup",
        ("make_cgroup", "$cgroup"),
        {Who.SERVICE: ("EACCES", G.HIDDEN), Who.TURN: ("ENOENT", G.SANDBOX), Who.STRANGER: ("EACCES", G.MODE)},
    ),
    Attempt(
        "leave its cgroup by a file system of its own",
        ("loosen_own_cgroup",),
        {Who.SERVICE: ("EACCES", G.NAMESPACE), Who.TURN: ("EACCES", G.NAMESPACE)},
        works_as=("make_cgroup", "$cgroup"),
    ),
]

ROWS = {"Processes of another": ANOTHERS, "What processes share": SHARED, "Its own bounds": BOUNDS}
