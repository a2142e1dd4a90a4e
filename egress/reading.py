"""Questions to the model, read in a process of their own: who parses 32 MiB lets nobody else run in the same one until that is done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import IO, Any

from pydantic_core import from_json, to_json

from egress import question
from egress.question import Question
from egress.refusals import Malformed, Refusal, Resting, TooLarge, Unasked

REFUSALS: Mapping[str, type[Refusal]] = {kind.__name__: kind for kind in (Malformed, TooLarge, Unasked)}
PROGRAM = (sys.executable, "-I", "-m", "egress.reading")


class Reader:
    """For one thread at a time. Its process begins with the first question, and anew where it has ended."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def read(self, body: bytes | bytearray, *, is_counted: bool, fields: Collection[str]) -> Question:
        """As `question.parsed` does. Raises `Resting` where the process ends meanwhile."""
        try:
            said, rest = self._told({"size": len(body), "is_counted": is_counted, "fields": list(fields)}, body)
        except (OSError, ValueError) as error:
            self.close()
            raise Resting("the question to the model could not be read; ask again") from error
        if "refused" in said:
            raise REFUSALS[said["refused"]](said["detail"])
        hosts = tuple((host, port) for host, port in said["hosts"])
        return Question(said["bounds"], rest, said["model"], said["is_fast"], hosts, said["tokens_in"], said["counts_as"])

    def close(self) -> None:
        child, self._child = self._child, None
        if child:
            child.kill()
            child.communicate()

    def _told(self, order: Mapping[str, Any], body: bytes | bytearray) -> tuple[dict[str, Any], bytes]:
        child = self._living()
        assert child.stdin
        assert child.stdout
        _put(child.stdin, order, body)
        return _taken(child.stdout, child.stdout.readline())

    def _living(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, cwd=os.sep)
        return self._child


def _put(pipe: IO[bytes], said: Mapping[str, Any], content: bytes | bytearray) -> None:
    pipe.write(to_json(said) + b"\n")
    pipe.write(content)
    pipe.flush()


def _taken(pipe: IO[bytes], line: bytes) -> tuple[dict[str, Any], bytes]:
    """What the line says, and what follows it. Raises `ValueError` where that is not all there."""
    said = from_json(line)
    content = pipe.read(said["size"])
    if len(content) < said["size"]:
        raise ValueError("the other end is gone")
    return said, content


def _answer(order: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        found = question.parsed(body, is_counted=order["is_counted"], fields=order["fields"])
    except Refusal as error:
        return {"size": 0, "refused": type(error).__name__, "detail": error.detail}, b""
    told = {name: value for name, value in vars(found).items() if name != "rest"}
    return {"size": len(found.rest), **told}, found.rest


def main() -> None:
    """Until nobody asks any more."""
    while order := sys.stdin.buffer.readline():
        _put(sys.stdout.buffer, *_answer(*_taken(sys.stdin.buffer, order)))


if __name__ == "__main__":
    main()
