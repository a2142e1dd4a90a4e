"""The model endpoint: an agent's request goes to the model's API with the key that no agent ever holds."""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence

from egress import resolver
from egress.exchange import Ear, Exchange
from egress.head import Head, Headers, end_to_end
from egress.refusals import Denied, Silent, Unasked, Unreachable
from egress.resolver import Resolver
from egress.settings import Bounds, Model

DEFAULT_PORTS = {"https": 443, "http": 80}
# What Claude Code says of itself and of what it asks. No other header goes on: by one of those a server between here and there could take a
# request for another one than was allowed, or send it elsewhere, with the key.
_HEADERS = frozenset(
    (
        *(b"accept", b"accept-encoding", b"accept-language", b"content-type", b"user-agent", b"x-app"),
        *(b"anthropic-version", b"anthropic-beta", b"anthropic-dangerous-direct-browser-access"),
    )
)
_FAMILIES = (b"x-stainless-", b"x-claude-code-")
_BETA = b"anthropic-beta"
# In another one a question could mean what nobody looks for here.
_VERSION, _VERSIONS = b"anthropic-version", (b"2023-06-01", b"2026-10-21")
QUESTION, COUNTING = "/v1/messages", "/v1/messages/count_tokens"
# What Claude Code asks. The key opens more, like files, batches and agents of everybody who shares it; and nothing in a path or
# a query may be what a server between here and there could read as another path or method.
_ASKED = {
    "POST": re.compile(f"{QUESTION}|{COUNTING}"),
    "GET": re.compile(r"/v1/models(?:/(?!\.{1,2}$)[A-Za-z0-9._~:@-]+)?"),
}
_QUERY = re.compile(r"(?:(?:^|&)(?:beta|limit|before_id|after_id)=[A-Za-z0-9._~:@-]*)*")


class Endpoint:
    """Where the model is and what proves who pays. `tls` is what proves who it is, by default what the system trusts."""

    def __init__(self, model: Model, bounds: Bounds, names: Resolver, tls: ssl.SSLContext | None = None) -> None:
        parts = model.parts
        self._model, self._bounds, self._names = model, bounds, names
        self.host, self.port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        self._authority, self._prefix = parts.netloc.encode(), parts.path
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None

    async def ask(self, exchange: Exchange, user: str, head: Head, content: Sequence[bytes] | None = None, ear: Ear | None = None) -> None:
        """Ask the model's API what the client asks, and pass the answer on, which `ear` hears. Raises `Refusal`, `Gone`.

        `content` is what is asked in the place of the request's body.
        """
        path = checked(head.method, head.target)
        headers = self._headers(head.headers)
        if ear:
            headers = [*((name, value) for name, value in headers if name != b"accept-encoding"), (b"accept-encoding", b"identity")]
        reader, writer = await self._connect(user)
        try:
            await exchange.run(reader, writer, self._prefix + path, headers, content, ear)
        finally:
            writer.transport.abort()

    def _headers(self, came: Headers) -> Headers:
        """The key is put in here and nowhere else; a redirection is the client's to follow, without it."""
        kept = [(name, value) for name, value in end_to_end(came) if is_passed_on(name)]
        if self._model.beta:
            kept = _with_beta(kept, self._model.beta.encode())
        if self._model.value:
            kept.append((self._model.header.encode(), self._model.value.reveal().encode()))
        return [(b"host", self._authority), *kept]

    async def _connect(self, user: str) -> tuple[StreamReader, StreamWriter]:
        addresses = await self._names.find(user, self.host)  # not judged: whoever set up the gate named the place
        _, connection = await resolver.connect(addresses, self.port, self._bounds.connect_seconds)
        try:
            async with asyncio.timeout(self._bounds.connect_seconds):
                name = self.host if self._tls else None
                return await asyncio.open_connection(sock=connection, ssl=self._tls, server_hostname=name)
        except TimeoutError as error:
            raise Silent("the model's API does not answer") from error
        except ssl.SSLError as error:
            raise Unreachable(f"the model's API does not prove who it is: {error.reason or 'TLS failed'}") from error
        except OSError as error:
            raise Unreachable("there is no connection to the model's API") from error


def is_question(head: Head) -> bool:
    """Whether it is answered by the model, and so costs something."""
    return head.method == "POST" and _path(head) == QUESTION


def is_counting(head: Head) -> bool:
    """Whether only its tokens are counted."""
    return head.method == "POST" and _path(head) == COUNTING


def require_known_version(head: Head) -> None:
    """Raises `Unasked` for a version of the API in which a question may mean something else."""
    if not all(version in _VERSIONS for version in head.values(_VERSION)):
        raise Unasked(f"the gate knows the API's versions {b' and '.join(_VERSIONS).decode()} only")


def is_passed_on(name: bytes) -> bool:
    """Whether a header of that name, in lower case, is the agent's to say."""
    return name in _HEADERS or name.startswith(_FAMILIES)


def _path(head: Head) -> str:
    return head.target.partition("?")[0]


def checked(method: str, target: str) -> str:
    """The path with its query, of what Claude Code asks. Raises `Denied` for all else, and for what could mean something else."""
    path, mark, query = target.partition("?")
    asked = _ASKED.get(method)
    if not asked or not asked.fullmatch(path):
        raise Denied(
            "the model is asked by POST /v1/messages, POST /v1/messages/count_tokens, GET /v1/models and GET /v1/models/ID only; "
            "other hosts by CONNECT or http://"
        )
    if not _QUERY.fullmatch(query):
        raise Denied("the model is asked with beta, limit, before_id and after_id in the query only")
    return path + mark + query


def _with_beta(headers: Headers, beta: bytes) -> Headers:
    said = [option.strip() for name, value in headers if name == _BETA for option in value.split(b",")]
    options = [*filter(None, said), *([] if beta in said else [beta])]
    return [*((name, value) for name, value in headers if name != _BETA), (_BETA, b",".join(options))]
