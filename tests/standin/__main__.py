"""The stand-in by hand: `python -m tests.standin --port 8099`, then point ANTHROPIC_BASE_URL at it."""

from __future__ import annotations

import argparse
import signal
from dataclasses import replace

from tests.standin import Reply, Request, Script, Standin, echo, text

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def main() -> None:
    options = _options()
    # Blocked in every thread, which inherit this: otherwise the signal kills before sigwait sees it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with Standin(options.port) as api:
        api.script(_script(options.reply, options.delay_seconds))
        print(api.url, flush=True)
        signal.sigwait(STOP_SIGNALS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free port")
    parser.add_argument("--reply", metavar="TEXT", help="answer this; default: echo the prompt")
    parser.add_argument("--delay-seconds", type=float, default=0, help="before each reply")
    return parser.parse_args()


def _script(body: str | None, delay_seconds: float) -> Script:
    def reply(request: Request) -> Reply:
        message = echo(request) if body is None else text(body)
        return replace(message, delay_seconds=delay_seconds)

    return reply


if __name__ == "__main__":
    main()
