"""The model endpoint: an agent's request goes to the model's API with the key that no agent ever holds."""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio import StreamReader, StreamWriter

from egress import resolver
from egress.exchange import Exchange
from egress.head import Head, Headers, end_to_end
from egress.refusals import Denied, Silent, Unreachable
from egress.resolver import Resolver
from egress.settings import Bounds, Model

STREAM_BYTES = 256 * 1024
DEFAULT_PORTS = {"https": 443, "http": 80}
_CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"cookie", b"host", b"forwarded"))
_BETA = b"anthropic-beta"
# Nothing that any server between here and there could read as a way out of /v1/.
_PATH = re.compile(r"(?!.*(?://|/\.{1,2}(?:/|$)))/v1/[A-Za-z0-9._~!$&'()*+,:@/-]+")


class Endpoint:
    """Where the model is and what proves who pays. `tls` is for tests; by default what the system trusts."""

    def __init__(self, model: Model, bounds: Bounds, names: Resolver, tls: ssl.SSLContext | None = None) -> None:
        parts = model.parts
        self._model, self._bounds, self._names = model, bounds, names
        self.host, self.port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        self._authority, self._prefix = parts.netloc.encode(), parts.path
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None

    async def ask(self, exchange: Exchange, user: str, head: Head) -> None:
        """Ask the model's API what the client asks, and pass the answer on. Raises `Refusal`, `Gone`."""
        path = checked(head.target)
        headers = self._headers(head.headers)
        reader, writer = await self._connect(user)
        try:
            await exchange.run(reader, writer, self._prefix + path, headers)
        finally:
            writer.transport.abort()

    def _headers(self, came: Headers) -> Headers:
        """The key is put in here and nowhere else; a redirection is the client's to follow, without it."""
        kept = [
            (name, value)
            for name, value in end_to_end(came)
            if name not in _CREDENTIALS and name != b"content-length" and not name.startswith(b"x-forwarded-")
        ]
        if self._model.beta:
            kept = _with_beta(kept, self._model.beta.encode())
        if self._model.value:
            kept.append((self._model.header.encode(), self._model.value.reveal().encode()))
        return [(b"host", self._authority), *kept]

    async def _connect(self, user: str) -> tuple[StreamReader, StreamWriter]:
        addresses = await self._names.find(user, self.host)  # not judged: whoever set up the gate named the place
        connection = await resolver.connect(addresses, self.port, self._bounds.connect_seconds)
        try:
            async with asyncio.timeout(self._bounds.connect_seconds):
                name = self.host if self._tls else None
                return await asyncio.open_connection(sock=connection, ssl=self._tls, server_hostname=name, limit=STREAM_BYTES)
        except TimeoutError as error:
            raise Silent("the model's API does not answer") from error
        except ssl.SSLError as error:
            raise Unreachable(f"the model's API does not prove who it is: {error.reason or 'TLS failed'}") from error
        except OSError as error:
            raise Unreachable("there is no connection to the model's API") from error


def checked(target: str) -> str:
    """A path below /v1/, with its query. Raises `Denied` for all others, and for what could mean one."""
    path, mark, query = target.partition("?")
    if not _PATH.fullmatch(path) or "#" in query:
        raise Denied("the model is asked at paths below /v1/ only; other hosts by CONNECT or http://")
    return path + mark + query


def _with_beta(headers: Headers, beta: bytes) -> Headers:
    said = [option.strip() for name, value in headers if name == _BETA for option in value.split(b",")]
    options = [*filter(None, said), *([] if beta in said else [beta])]
    return [*((name, value) for name, value in headers if name != _BETA), (_BETA, b",".join(options))]
