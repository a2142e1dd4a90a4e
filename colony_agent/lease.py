"""The lease of a turn that runs: as long as it is renewed, the turn is nobody else's."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from colony import errors
from colony.failpoints import reach
from colony_agent.claim import Claimed
from colony_agent.runner import Runner
from colony_agent.settings import Home

log = logging.getLogger(__name__)

MIN_RENEWAL_SECONDS = 1  # between two requests for a longer one


class Lease:
    """Renews a turn's lease until the block ends; stops the runner when the turn is taken away or the agent shall not work."""

    def __init__(self, home: Home, turn: Claimed, runner: Runner) -> None:
        self._home, self._turn, self._runner = home, turn, runner
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()

    def _renew(self) -> None:
        from colony import operations, schema
        from colony.client import Client

        seconds = self._home.agent.lease_seconds
        wait = min(seconds / 3, schema.MAX_WAIT_SECONDS)
        request = schema.RenewTurn(id=self._turn.id, lease_seconds=seconds, wait=wait)
        with Client(self._home.colony.url, self._home.colony.token, turn=self._turn.reference) as client:
            while not self._over.is_set():
                began = time.monotonic()
                reach("turn.before_renew")
                try:
                    if client.call(operations.RENEW, request).status != "healthy":
                        break
                except (errors.StaleTurn, errors.Unauthenticated, errors.Forbidden) as error:
                    if not self._over.is_set():
                        log.warning("lease lost turn=%d error=%s", self._turn.id, error.detail)
                    break
                except errors.ColonyError as error:  # the server restarts, or its disk is full; the lease may outlive that
                    log.warning("lease not renewed turn=%d error=%s", self._turn.id, error.detail)
                reach("turn.renewed")
                # A server that doesn't wait, as one that is stopping or answers with an error, is not asked all the time.
                self._over.wait(min(wait, MIN_RENEWAL_SECONDS) - (time.monotonic() - began))
        self._runner.stop()
