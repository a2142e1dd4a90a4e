"""The gate as a process: puts its parts together, and lives until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from colony import errors, operations
from colony.client import Client
from egress import descriptors
from egress.follower import Follower
from egress.gate import Gate
from egress.ledger import Ledger
from egress.meter import Meter
from egress.model import Endpoint
from egress.policy import Policy
from egress.proxy import Proxy
from egress.resolver import Resolver
from egress.settings import Settings
from egress.systemd import Systemd
from egress.vault import Vault

log = logging.getLogger(__name__)

BACKLOG = 1024
FLUSH_SECONDS = 5.0  # for the contacts that the server has not heard of
JUDGE_SECONDS = 15.0  # until what is open is judged again where there is no news
FILES_PER_CONNECTION = 6  # two sockets, and a pipe each way while it is full
OTHER_FILES = 256
MAX_SOCKET_PATH = 100


def run(settings: Settings, systemd: Systemd) -> None:
    """Serve until SIGTERM or SIGINT. Raises `Unavailable` where the socket can't be had, `Invalid` where settings can't be used."""
    with listening(settings.socket) as server_socket:
        asyncio.run(_serve(settings, server_socket, systemd))
    with suppress(OSError):
        settings.socket.unlink()


async def _serve(settings: Settings, server_socket: socket.socket, systemd: Systemd) -> None:
    loop = asyncio.get_running_loop()
    bounds = settings.bounds
    _allow_files(bounds.connections * FILES_PER_CONNECTION + OTHER_FILES)
    policy, names = Policy(bounds.away_seconds), Resolver(bounds.connect_seconds)
    vault = Vault(bounds.away_seconds, settings.socket.parent)
    model_names = Resolver(bounds.connect_seconds)  # apart: whoever asks for silent hosts shall not keep others from the model
    server, tls = Client(settings.server), ssl.create_default_context()  # one of each: each takes memory
    ledger = Ledger(server, bounds.contacts)
    common = Endpoint(settings.model, bounds, model_names, tls)
    own = {user: Endpoint(model, bounds, model_names, tls) for user, model in settings.own_models.items()}
    meter = Meter(server, settings.prices, bounds.contacts)
    proxy = Proxy(bounds, policy, vault, ledger, meter, names, lambda user: own.get(user, common), tls, settings.model_fields)
    followers: list[Follower[Any, Any]] = [
        Follower("rules", operations.EGRESS_POLICY, policy, server, lambda: _in(loop, proxy)),
        Follower("secrets", operations.EGRESS_SECRETS, vault, server, lambda: _in(loop, proxy)),
    ]
    for follower in followers:
        follower.start()
    ledger.start()
    meter.start()

    serving = asyncio.create_task(Gate(bounds, policy, proxy, ledger).serve(server_socket))
    threads: tuple[Any, ...] = (*followers, ledger, meter)
    reporting = asyncio.create_task(systemd.report(settings.socket, lambda: all(each.is_alive() for each in threads)))
    judging = asyncio.create_task(judge_again_and_again(proxy.judge_again))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    log.info("the gate is open socket=%s server=%s model=%s", settings.socket, settings.server, settings.model.url)
    try:
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        systemd.stopping()
        reporting.cancel()
        judging.cancel()
        proxy.close()
        meter.close(FLUSH_SECONDS)
        ledger.close(FLUSH_SECONDS)
    log.info("the gate is closed")


async def judge_again_and_again(judge: Callable[[], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Until this is cancelled. A server that is away says nothing, and what is open must end without its rules, too."""
    while True:
        await sleep(JUDGE_SECONDS)
        try:
            judge()
        except Exception:  # were this to end, what is open would outlive its rules
            log.exception("what is open could not be judged")


def _in(loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
    with suppress(RuntimeError):  # the loop is closed: so are the tunnels
        loop.call_soon_threadsafe(proxy.judge_again)


def listening(path: Path) -> socket.socket:
    """The gate's socket, for everyone to knock at: the kernel says who it is. Raises `Unavailable`."""
    if len(str(path)) > MAX_SOCKET_PATH:
        raise errors.Unavailable(f"the socket's path is too long for Linux: {path}; name a shorter one in the settings")
    _make_room(path)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.setblocking(False)
        descriptors.decline(found)  # before anybody can connect
        found.bind(str(path))
        path.chmod(0o666)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise errors.Unavailable(f"can't listen at {path}: {error.strerror}") from error
    return found


def _make_room(path: Path) -> None:
    """A gate that was killed has left its socket there; one that answers is another gate."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise errors.Unavailable(f"another gate answers at {path}")
    with suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if wanted < count:
        log.warning("fewer files may be open than all connections may need limit=%d wanted=%d", wanted, count)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
