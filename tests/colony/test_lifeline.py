"""Signals that ask a process to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

STOPS = """
import signal
from colony.lifeline import StopSignals
stop = StopSignals(signal.SIGTERM, signal.SIGINT)
print("ready", flush=True)
while not stop.wait({seconds}):
    pass
while True:  # what a process does while it winds up
    stop.wait(0.001)
    stop.is_set()
    try:
        input()
    except EOFError:
        break
"""


def started(seconds: float | None) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPS.format(seconds=seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    return child


def test_a_shower_of_signals_ends_a_process_and_does_not_lock_it() -> None:
    for round in range(8):
        with started(None if round % 2 else 0.0001) as child:
            for _ in range(200):
                child.send_signal(signal.SIGTERM)
                child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=60)
            assert (child.returncode, said) == (0, b"")


def test_without_a_signal_the_wait_ends_in_time() -> None:
    script = "import signal; from colony.lifeline import StopSignals; print(StopSignals(signal.SIGTERM).wait(0.05))"
    began = time.monotonic()
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == "False\n"
    assert time.monotonic() - began >= 0.05
