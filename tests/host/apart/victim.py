"""The brain of the other agent. Told to hold, it has something of every kind that could be taken from it, and says where."""

import ctypes
import json
import mmap
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

SECRET = b"the rook's secret"
KEY, SHARED_KEY = 4242, 4343


def hold(turn: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    kept = ctypes.create_string_buffer(SECRET)
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        Path(folder, "rooks-secret").write_bytes(SECRET)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0rooks-socket")
    abstract.listen()
    queue = libc.mq_open(b"/rooks-queue", os.O_RDWR | os.O_CREAT, 0o666, None)
    shared = [libc.shmget(KEY, mmap.PAGESIZE, 0o1666), libc.msgget(KEY, 0o1666)]
    assert min(queue, *shared) >= 0, os.strerror(ctypes.get_errno())
    facts = {
        "pid": os.getpid(),
        "address": ctypes.addressof(kept),
        "port": listening.getsockname()[1],
        "key": KEY,
        "turn": f"{turn['id']}.{turn['attempt']}",
        "turn_id": turn["id"],
    }
    Path(os.environ["HOME"], "facts.new").write_text(json.dumps(facts))
    Path(os.environ["HOME"], "facts.new").rename(Path(os.environ["HOME"], "facts.json"))
    time.sleep(600)


def share() -> None:
    """What every user of the machine may have, where no service has its own."""
    os.umask(0)
    libc = ctypes.CDLL(None, use_errno=True)
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        Path(folder, "everybodys").write_bytes(b"hello")
    queue = libc.mq_open(b"/everybodys", os.O_RDWR | os.O_CREAT, 0o666, None)
    shared = [libc.shmget(SHARED_KEY, mmap.PAGESIZE, 0o1666), libc.msgget(SHARED_KEY, 0o1666)]
    assert min(queue, *shared) >= 0, os.strerror(ctypes.get_errno())


def main() -> None:
    if "--share" in sys.argv:
        share()
        return
    turn = json.load(sys.stdin)["turn"]
    said = [item["message"]["body"] for item in turn["items"]]
    if any("hold" in body for body in said):
        hold(turn)
    print("you said:", said[-1] if said else "nothing")


if __name__ == "__main__":
    main()
