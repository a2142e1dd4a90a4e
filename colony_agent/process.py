"""Runs one command to its end: bounded in time and output, and no process is left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from colony.failpoints import reach
from colony.failures import CRASHED, STOPPED, TIMED_OUT
from colony_agent import tree
from colony_agent.runner import RunnerFailed
from colony_agent.sandbox.command import Command

MAX_LINE_BYTES = 10 * 2**20
MAX_OUTPUT_BYTES = 50 * 2**20
STDERR_KEPT_BYTES = 8 * 2**10
CHUNK_BYTES = 2**16
TICK_SECONDS = 0.1  # how soon a stop is noticed
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # as this process sees it, and as bubblewrap passes it on
OOM_SCORE = Path("/proc/self/oom_score_adj")
FIRST_TO_GO = "1000"


@dataclass(frozen=True)
class Exit:
    returncode: int  # negative: the signal that ended it
    stderr: str  # its last part

    @property
    def last_words(self) -> str:
        """The last line of stderr, or what can be said without one."""
        if self.returncode in KILLED:
            return "it was killed: most likely it took more memory than there is for it"
        lines = self.stderr.strip().splitlines()
        return lines[-1].strip() if lines else f"it ended with code {self.returncode} and without a word"


def run(command: Command, stdin: bytes, on_line: Callable[[bytes], None], timeout_seconds: float, stop: threading.Event) -> Exit:
    """Start, feed and wait. `on_line` gets each line of stdout; an exception of its own ends the process, too.

    Raises `RunnerFailed`: TIMED_OUT, STOPPED once `stop` is set, CRASHED when it can't start or floods its output.
    """
    with started(command) as process:
        process.serve(stdin, on_line, timeout_seconds, stop)
    return process.ended()


@contextmanager
def started(command: Command) -> Iterator[Process]:
    """The process, which already runs: for who has to get its input ready meanwhile. Nothing of it lives on after the block.

    Raises `RunnerFailed` when it can't start.
    """
    reach("turn.before_spawn")
    try:
        with _first_to_go():
            process = subprocess.Popen(
                command.argv,
                env=command.env,
                cwd=command.cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=command.descriptors,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:  # ValueError: a NUL character in a word
        raise RunnerFailed(CRASHED, f"can't start {command.argv[0]}: {error}") from error
    finally:
        for descriptor in command.descriptors:
            os.close(descriptor)
        namespace_pid = command.namespace_pid()
    with process, tree.watched(process.pid) as exited, tree.watched(namespace_pid) as emptied:
        assert exited is not None
        reach("turn.spawned")
        try:
            yield Process(command, process, exited)
        finally:
            tree.end(process.pid, exited, emptied)


@contextmanager
def _first_to_go() -> Iterator[None]:
    """What is started in here is ended before anything else when memory is short: this process then lives to tell of it."""
    try:
        before = OOM_SCORE.read_text()
        OOM_SCORE.write_text(FIRST_TO_GO)
    except OSError:  # no Linux that knows this: nobody is ended first
        yield
        return
    try:
        yield
    finally:
        OOM_SCORE.write_text(before)  # whoever has raised it may go back


@dataclass
class Process:
    """A running command."""

    _command: Command
    _process: subprocess.Popen[bytes]
    _exited: int  # turns readable when it exits
    _stderr: bytearray = field(default_factory=bytearray)

    def serve(self, stdin: bytes, on_line: Callable[[bytes], None], timeout_seconds: float, stop: threading.Event) -> None:
        """Feed and listen until it exits, as `run` does."""
        _Pipes(self._process, memoryview(stdin), on_line, self._stderr).serve(self._exited, timeout_seconds, stop)

    def ended(self) -> Exit:
        """How it ended; after the block. Raises `RunnerFailed` when it was the sandbox that failed."""
        ended = Exit(self._process.returncode, self._stderr.decode(errors="replace"))
        if ended.returncode and (reason := self._command.explain(ended.stderr)):
            raise RunnerFailed(CRASHED, reason)
        return ended


@dataclass
class _Pipes:
    process: subprocess.Popen[bytes]
    stdin: memoryview
    on_line: Callable[[bytes], None]
    stderr: bytearray
    _line: bytearray = field(default_factory=bytearray)
    _heard_bytes: int = 0

    def serve(self, exited: int, timeout_seconds: float, stop: threading.Event) -> None:
        deadline = time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            self._register(selector, exited)
            while selector.get_map().get(exited):
                if stop.is_set():
                    raise RunnerFailed(STOPPED)
                if (left := deadline - time.monotonic()) <= 0:
                    raise RunnerFailed(TIMED_OUT, f"it took longer than {timeout_seconds:g} s")
                self._pass_on(selector, min(left, TICK_SECONDS))
            # What it wrote before it exited is still in the pipes; whoever else holds their other end is not waited for.
            while selector.get_map() and self._pass_on(selector, 0):
                pass
        if self._line:
            self.on_line(bytes(self._line))

    def _register(self, selector: selectors.BaseSelector, exited: int) -> None:
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        os.set_blocking(self.process.stdin.fileno(), False)
        selector.register(exited, selectors.EVENT_READ, lambda _: False)
        selector.register(self.process.stdin, selectors.EVENT_WRITE, self._feed)
        selector.register(self.process.stdout, selectors.EVENT_READ, self._hear)
        selector.register(self.process.stderr, selectors.EVENT_READ, self._note)

    def _pass_on(self, selector: selectors.BaseSelector, within_seconds: float) -> bool:
        """Whether anything moved. Each descriptor's function says whether there is more to come."""
        ready = selector.select(within_seconds)
        for key, _ in ready:
            if not key.data(key.fd):
                selector.unregister(key.fileobj)
                if key.fileobj is self.process.stdin and self.process.stdin:
                    self.process.stdin.close()
        return bool(ready)

    def _feed(self, pipe: int) -> bool:
        with suppress(BrokenPipeError):  # it need not read
            self.stdin = self.stdin[os.write(pipe, self.stdin[:CHUNK_BYTES]) :]
            return bool(self.stdin)
        return False

    def _note(self, pipe: int) -> bool:
        chunk = os.read(pipe, CHUNK_BYTES)
        self.stderr += chunk
        del self.stderr[:-STDERR_KEPT_BYTES]
        return bool(chunk)

    def _hear(self, pipe: int) -> bool:
        chunk = os.read(pipe, CHUNK_BYTES)
        if chunk and not self._heard_bytes:
            reach("turn.first_output")
        self._heard_bytes += len(chunk)
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self.on_line(bytes(self._line + line))
            self._line.clear()
        self._line += rest
        if len(self._line) > MAX_LINE_BYTES or self._heard_bytes > MAX_OUTPUT_BYTES:
            raise RunnerFailed(CRASHED, "it flooded its output")
        return bool(chunk)
