"""Tries what a file lists, each in a process of its own, and tells how each ended.

`python3 -I probe.pyz CALLS [PLACES]`: CALLS is a JSON document of `{id: [name, argument…]}`. As the brain of a turn it finds the turn's
document on its standard input. It prints `{id: outcome}`: "ok", an errno such as EACCES, or the words of whoever refused.
With the standard library alone, since it runs wherever an attacker could.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from . import files, ipc, kernel, namespaces, outward, processes, talk
from .refused import Refused

SECONDS = 10.0
TRIES: dict[str, Callable[..., None]] = {
    name: function
    for module in (files, ipc, kernel, namespaces, outward, processes, talk)
    for name, function in vars(module).items()
    if callable(function) and not name.startswith("_") and getattr(function, "__module__", "") == module.__name__
}


def outcome(call: list[str]) -> str:
    """How the attempt ended; it can do nothing to those that come after it."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        os.setpgid(0, 0)
        os.write(sending, _ended(call).encode()[:2000])
        os._exit(0)
    os.close(sending)
    said = b""
    if select.select([receiving], [], [], SECONDS)[0]:
        said = os.read(receiving, 2000)
    os.close(receiving)
    for victim in (-child, child):
        with suppress(OSError):
            os.kill(victim, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return said.decode() or (f"killed by {signal.Signals(-code).name}" if code < 0 else "no answer")


def _ended(call: list[str]) -> str:
    try:
        TRIES[call[0]](*call[1:])
    except Refused as refused:
        return str(refused)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def main() -> None:
    with open(sys.argv[1]) as file:
        calls: dict[str, list[str]] = json.load(file)
    turn = {} if sys.stdin.isatty() else json.loads(sys.stdin.read() or "{}")
    tools = turn.get("tools") or ""
    print(json.dumps({id: outcome([word.replace("$tools", tools) for word in call]) for id, call in calls.items()}))


if __name__ == "__main__":
    main()
