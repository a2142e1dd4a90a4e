"""The shorter way to an operation and Flask's own way to it lead to the same answer."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from colony.operations import OPERATIONS
from server.shortcut import Shortcut
from tests.server.cast import token_of
from tests.server.support import Colony

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PARTS = sorted({part for row in OPERATIONS.values() for part in row.path.split("/") if not part.startswith("{")})
NUMBERS = ["1", "007", "0", "-1", "+1", "1.0", " 1", "9" * 19, "9" * 25, "²", "٣"]
ODD = ["", ".", "..", "general", "scout", *NUMBERS, "ä", "GENERAL", "a b", "%2F"]
paths = st.lists(st.sampled_from(PARTS + ODD), max_size=6).map(lambda parts: "/" + "/".join(parts))
templates = st.builds(
    lambda row, part: row.path.replace("{" + (row.path_fields or ["-"])[0] + "}", part),
    st.sampled_from([row for row in OPERATIONS.values() if not row.streams]),
    st.sampled_from(["general", "scout", *ODD]),
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])


def answer(app: Any, method: str, path: str, token: str) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of a request without a body."""
    got: dict[str, Any] = {}

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        got["status"], got["headers"] = status, dict(headers)

    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode().decode("latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
    }
    body = app(environ, start)
    found = b"".join(body)
    getattr(body, "close", lambda: None)()
    return got["status"], got["headers"], found


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=methods, path=st.one_of(paths, templates))
@example(method="GET", path="/api/inbox/")
@example(method="GET", path="/api//inbox")
@example(method="GET", path="api/inbox")
@example(method="GET", path="xapi/inbox")
@example(method="GET", path="")
@example(method="HEAD", path="/api/inbox")
def test_both_ways_lead_to_the_same_answer(colony: Colony, method: str, path: str) -> None:
    shortcut = colony.app.wsgi_app
    assert isinstance(shortcut, Shortcut)
    through_flask = answer(shortcut._otherwise, method, path, token_of("ann"))
    assert answer(shortcut, method, path, token_of("ann")) == through_flask


def test_every_operation_is_found_at_once(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("this went through Flask")

    shortcut = colony.app.wsgi_app
    assert isinstance(shortcut, Shortcut)
    monkeypatch.setattr(shortcut, "_otherwise", never)
    for row in OPERATIONS.values():
        if not row.streams:
            path = row.path.replace("{id}", "1").replace("{" + (row.path_fields or ["-"])[0] + "}", "general")
            status, headers, _ = answer(shortcut, row.method, path, "nobody-s")
            assert (status, headers["Content-Type"]) == ("401 UNAUTHORIZED", "application/problem+json"), row.name
