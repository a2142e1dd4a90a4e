"""Calls a colony's operations, over its unix socket or over HTTP. The one place that imports httpx."""

from __future__ import annotations

import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from urllib.parse import quote

# httpx loads its own command line if it can, and with it 40 ms of rich and pygments.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from colony import config, errors, operations, schema  # noqa: E402
from colony.operations import Operation, Q, R  # noqa: E402

CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 30.0  # on top of what the server was asked to wait; twice the silence of a stream
FIRST_PAUSE_SECONDS = 0.25  # before a stream that was lost is opened again; doubled up to the longest
LONGEST_PAUSE_SECONDS = 5.0


class Client:
    """One caller's connection to a colony.

    `url` is `unix:/path/to/api.sock`, `http://…` or `https://…`. Without a token the unix socket's peer says who calls.
    Each failure is raised as the `ColonyError` class that the server raised; silence and foreign answers as `Unavailable`,
    an address that can't be one as `Invalid`.
    """

    def __init__(self, url: str, token: str | None = None, turn: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        if turn:
            headers["Colony-Turn"] = turn
        socket_path = url.removeprefix("unix:") if url.startswith("unix:") else None
        is_tls = url.startswith("https:")  # elsewhere, loading the certificates would take longer than the call
        try:
            self._http = httpx.Client(
                base_url="http://colony" if socket_path else url,
                transport=transport or (httpx.HTTPTransport(uds=socket_path, verify=False) if socket_path else None),
                headers=headers,
                timeout=httpx.Timeout(ANSWER_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
                verify=_authorities() if is_tls else False,
                trust_env=False,  # a proxy from the environment must not see the token
            )
        except httpx.InvalidURL as error:
            raise errors.Invalid(f"{url!r} is no colony's address: {error}") from error

    def call(self, operation: Operation[Q, R], request: Q) -> R:
        """The operation's response; safe to repeat only where the operation says so."""
        is_query = operation.method in ("GET", "DELETE")
        fields = request.model_dump(mode="json", exclude_unset=True, exclude_none=is_query)  # a query can't say null
        path = re.sub(r"{(\w+)}", lambda match: quote(str(fields.pop(match[1])), safe=""), operation.path)
        timeout = httpx.Timeout(ANSWER_TIMEOUT_SECONDS + float(fields.get("wait") or 0), connect=CONNECT_TIMEOUT_SECONDS)
        try:
            if is_query:
                answer = self._http.request(operation.method, path, params=fields, timeout=timeout)
            else:
                answer = self._http.request(operation.method, path, json=fields, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.Unavailable(config.nobody_at(self._url, error)) from error
        if answer.is_error:
            raise _raised(operation.name, answer)
        try:
            return operation.response.model_validate_json(answer.content)
        except ValidationError as error:
            raise errors.Unavailable(f"{self._url} answered {operation.name} with something that is not a colony's answer") from error

    def events(
        self, since: str | None = None, tell: Callable[[errors.Unavailable | None], None] = lambda error: None
    ) -> Iterator[schema.Event]:
        """All that happens after the position `since`, or from now on, without end: nothing is left out and nothing comes twice.

        A stream that was lost is opened again where it ended, for as long as it takes: `tell` hears why it is away, and None whenever
        it is there. Other errors are raised.
        """
        position, pause = since, FIRST_PAUSE_SECONDS
        while True:
            try:
                for found, event in self._stream(position):
                    position, pause = found, FIRST_PAUSE_SECONDS
                    tell(None)
                    if event:
                        yield event
            except errors.Unavailable as error:
                tell(error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _stream(self, position: str | None) -> Iterator[tuple[str, schema.Event | None]]:
        """One connection's events, each with the position after it; None where nothing but the position is told."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": position} if position else {})
        try:
            with self._http.stream("GET", operations.EVENTS.path, headers=headers) as answer:
                if answer.is_error:
                    answer.read()
                    raise _raised(operations.EVENTS.name, answer)
                for fields in _blocks(answer.iter_raw()):
                    if "id" in fields:
                        event = schema.Event.model_validate_json(fields["data"]) if "data" in fields else None
                        yield fields["id"], event
        except httpx.HTTPError as error:
            raise errors.Unavailable(config.nobody_at(self._url, error)) from error
        except ValueError as error:  # no UTF-8, or no event
            raise errors.Unavailable(f"{self._url} sent something that is no colony's event") from error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _authorities() -> ssl.SSLContext:
    """The public ones, and those that this machine trusts besides: a colony in one's own network may have its own."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _blocks(pieces: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """The fields of each complete block of server-sent events. Lines end with a line feed only: a text may hold any other separator."""
    rest = b""
    for piece in pieces:
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            lines = (line.partition(": ") for line in block.decode().split("\n"))
            yield {name: value for name, _, value in lines if name}


def _raised(operation: str, answer: httpx.Response) -> errors.ColonyError:
    try:
        problem = schema.Problem.model_validate_json(answer.content)
    except ValidationError:  # not ours: a proxy's page, or a crash
        return errors.Unavailable(f"{operation}: HTTP {answer.status_code}")
    return errors.BY_CODE.get(problem.code, errors.ColonyError)(problem.detail)
