"""What thinks for agents that are struck: as in a proof, it says which messages it answers. It runs in the sandbox, alone.

`mind.py BRAIN CHANNEL SECONDS`: BRAIN is a copy of `prove/brain.py`. A file in the home bids it to do something else, once.
"""

import importlib.util
import io
import json
import os
import signal
import sys
import time

EATS, DIES = "eats", "dies"  # names of such files
DREAM_SECONDS = 0.7


def main(brain_file: str, channel: str, seconds: float) -> None:
    """Think at least so long: whoever strikes must have time to see it think."""
    if bidden(EATS):
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
    if bidden(DIES):
        os.kill(os.getpid(), signal.SIGSEGV)
    said = sys.stdin.read()
    if json.loads(said)["turn"]["kind"] == "dream":
        time.sleep(DREAM_SECONDS)
        print(dreamt(), end="")
        return
    time.sleep(seconds)
    spec = importlib.util.spec_from_file_location("brain", brain_file)
    assert spec is not None
    assert spec.loader is not None
    brain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(brain)
    sys.stdin = io.StringIO(said)
    brain.main(channel, seconds)


def bidden(name: str) -> bool:
    try:
        os.unlink(name)
    except FileNotFoundError:
        return False
    return True


def dreamt() -> str:
    """The memory after the one that is there."""
    with open("memory/memory.md") as file:
        return memory(int(file.readline() or 0) + 1)


def memory(number: int) -> str:
    """Long, so that it takes more than one write; whoever finds a part of it knows."""
    return f"{number}\n" + f"so it was in dream {number}\n" * 400


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
