"""Bad input: whatever arrives, the answer is a problem that names what was wrong, and never a crash."""

from __future__ import annotations

import json
import socket
from typing import Any, get_args
from urllib.parse import urlencode

import pytest

from colony import errors, operations, schema
from colony.operations import OPERATIONS
from server.http import MAX_REQUEST_BYTES
from tests.server.cast import token_of
from tests.server.samples import SAMPLES
from tests.server.serving import Server
from tests.server.support import AnyOperation, Colony, only_sqlite, problem

WITH_BODY = [operation for operation in OPERATIONS.values() if operation.method in ("POST", "PUT")]
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
every_body = pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.name)

NASTY: dict[str, Any] = {
    "null": None,
    "true": True,
    "text": "nasty",
    "empty": "",
    "nul": "a\0b",
    "lone surrogate": "\ud800",
    "newline at the end": "general\n",
    "other script": "gеneral",  # the second letter is Cyrillic
    "long": "x" * 70_000,
    "huge": 10**400,
    "past 64 bits": 2**63,
    "negative": -1,
    "float": 1.5,
    "number as text": "1",
    "list": [],
    "deep list": [[[[]]]],
    "object": {"a": 1},
    "mixed list": [1, "1", None],
    "many": list(range(1, 502)),
}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def place(operation: AnyOperation, request: schema.Request) -> tuple[str, dict[str, Any]]:
    """A valid request's path, and its other fields."""
    fields = request.model_dump(mode="json", exclude_unset=True)
    path = operation.path.format(**fields)
    return path, {name: value for name, value in fields.items() if name not in operation.path_fields}


def fits(operation: AnyOperation, field: str, value: Any) -> bool:
    """Whether the schema itself takes this value for the field."""
    fields = dict.fromkeys((field,), value)
    try:
        operation.request.__pydantic_validator__.validate_assignment(operation.request.model_construct(), field, value, strict=True)
    except ValueError:
        return False
    return bool(fields)


@only_sqlite
@every_body
def test_each_field_refuses_what_it_cannot_hold_and_is_named(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    path, fields = place(operation, request)
    for name in operation.request.model_fields.keys() - set(operation.path_fields):
        for what, value in NASTY.items():
            answer = caller._http.request(operation.method, path, content=as_json(fields | {name: value}))
            assert answer.status_code < 500, (name, what, answer.text)
            if answer.is_error and answer.status_code == 400:
                assert problem(answer)["detail"].startswith(name), (name, what, answer.text)
            elif answer.is_success:
                assert what not in ("nul", "lone surrogate", "object", "deep list", "huge"), (name, what)


@only_sqlite
@pytest.mark.parametrize("operation", [row for row in OPERATIONS.values() if row.method in ("GET", "DELETE")], ids=lambda row: row.name)
def test_each_query_parameter_refuses_what_it_cannot_hold_and_is_named(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    path, fields = place(operation, request)
    values = ["", "x\0y", "nan", "inf", "-1", "1e400", "9" * 30, "9" * 4000, "1.5.5", "[]", "gеneral", "\n", "null", " ", "0x1", "１"]
    for name in operation.request.model_fields.keys() - set(operation.path_fields):
        for value in values:
            answer = caller._http.request(operation.method, path, params=fields | {name: value})
            assert answer.status_code < 500, (name, value, answer.text)
            assert answer.is_success or name in problem(answer)["detail"]
        assert problem(caller._http.request(operation.method, path, params=[(name, "1"), (name, "1")]))["detail"].startswith(name)
        others = urlencode({other: value for other, value in fields.items() if other != name})
        assert problem(caller._http.request(operation.method, f"{path}?{others}&{name}=%ff%fe"))["detail"].startswith(name)
    assert "colour" in problem(caller._http.request(operation.method, path, params=fields | {"colour": "red"}))["detail"]


@only_sqlite
def test_a_missing_name_leads_to_no_other_operation(colony: Colony) -> None:
    colony.admin.call(operations.CREATE_USER, schema.CreateUser(username="token", kind="ape"))
    answer = colony.admin._http.request("DELETE", "/api/users//token", follow_redirects=True)
    assert problem(answer)["code"] == "not_found"
    assert {each.status for each in colony.ann.call(operations.USERS, schema.ListUsers(kind="ape")).users} == {"healthy"}


@only_sqlite
@every_operation
def test_each_path_refuses_what_it_cannot_hold(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    _, fields = place(operation, request)
    bad = ["%00", "a%00b", "A", "x" * 300, "..", "%2e%2e", "a%20b", "-1", "0", "9" * 25, "9" * 5000, "1.5", "%2f", "a%0a"]
    for value in bad if operation.path_fields else []:
        path = operation.path
        for name in operation.path_fields:
            path = path.replace(f"{{{name}}}", value)
        body = None if operation.method in ("GET", "DELETE") else as_json(fields)
        answer = caller._http.request(operation.method, path, content=body)
        assert 400 <= answer.status_code < 500, (value, answer.text)
        problem(answer)


@every_body
def test_a_missing_field_and_a_foreign_one_are_named(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    path, fields = place(operation, request)
    for name, field in operation.request.model_fields.items():
        if field.is_required() and name not in operation.path_fields:
            less = {key: value for key, value in fields.items() if key != name}
            found = problem(caller._http.request(operation.method, path, content=as_json(less)))
            assert (found["status"], found["code"], found["detail"].startswith(name)) == (400, "invalid", True)
    found = problem(caller._http.request(operation.method, path, content=as_json(fields | {"colour": "red"})))
    assert found["detail"].startswith("colour")
    for name in operation.request.model_fields:
        assert name in found["detail"]  # what would have been right
    for name in operation.path_fields:
        found = problem(caller._http.request(operation.method, path, content=as_json(fields | {name: "general"})))
        assert found["detail"].startswith(name)


@only_sqlite
@every_body
def test_a_body_that_is_no_object_of_json_is_refused(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    path, _ = place(operation, request)
    bodies = [
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b"NaN",
        b"\xff\xfe",
        b'{"body": "\xff"}',
        b'{"body": "\xed\xa0\x80"}',
        b"\0",
        b"body=hello&type=text",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"\\ud800": 1}',
        b'{"a": 1e999}',
        b'{"\\u0000": 1}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
    ]
    for body in bodies:
        answer = caller._http.request(operation.method, path, content=body)
        assert 400 <= answer.status_code < 500, (body[:40], answer.text)
        assert problem(answer)["code"] == "invalid"


@only_sqlite
@every_body
def test_a_body_beyond_the_bound_is_too_large(colony: Colony, operation: AnyOperation) -> None:
    caller, request = SAMPLES[operation.name](colony)
    path, fields = place(operation, request)
    answer = caller._http.request(operation.method, path, content=as_json(fields) + b" " * MAX_REQUEST_BYTES)
    assert problem(answer)["code"] == "too_large"
    assert answer.status_code == 413


@only_sqlite
@every_body
def test_fields_of_a_body_do_not_count_in_the_query(colony: Colony, operation: AnyOperation) -> None:
    """Unknown fields are refused wherever they stand: nobody believes to have asked for something that was ignored."""
    caller, request = SAMPLES[operation.name](colony)
    path, fields = place(operation, request)
    answer = caller._http.request(operation.method, path, content=as_json(fields), params={"colour": "red"})
    assert "colour" in problem(answer)["detail"]


def test_a_body_of_exactly_64_kib_is_kept_and_one_byte_more_is_not(colony: Colony) -> None:
    for fill in ("x", "é", "🦧", "\x01"):
        body = fill * (schema.MAX_BODY_BYTES // len(fill.encode()))
        with colony.http(token_of("ann")) as http:
            assert http.post("/api/channels/general/messages", json={"body": body}).json()["body"] == body
            answer = http.post("/api/channels/general/messages", json={"body": body + "xxxx"})
            assert problem(answer)["detail"].startswith("body")


@only_sqlite
def test_duplicate_keys_and_odd_content_types_do_not_crash(colony: Colony) -> None:
    with colony.http(token_of("ann")) as http:
        for kind in (
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "",
            "x",
        ):
            answer = http.post("/api/channels/general/messages", content=b"body=hello", headers={"Content-Type": kind})
            assert problem(answer)["code"] == "invalid"
        answer = http.post("/api/channels/general/messages", content=b'{"body": "one", "body": "two"}')
        assert answer.status_code in (200, 400)


@only_sqlite
@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 404),
    ("GET", "/api", 404),
    ("GET", "/api/nothing", 404),
    ("GET", "/api/turns/abc", 404),
    ("POST", "/api/turns/1/explode", 404),
    ("PATCH", "/api/whoami", 405),
    ("DELETE", "/api/users", 405),
    ("POST", "/api/whoami", 405),
    ("GET", "/api/../../etc/passwd", 404),
    ("GET", "/static/x", 404),
    ("BREW", "/api/whoami", 405),
])  # fmt: skip
def test_a_path_or_method_that_is_none_is_a_problem_too(colony: Colony, method: str, path: str, status: int) -> None:
    with colony.http(token_of("ann")) as http:
        answer = http.request(method, path)
        assert problem(answer)["status"] == status
        if status == 405:
            assert answer.headers["allow"]


def test_health_needs_no_identity_and_tells_little(colony: Colony) -> None:
    with colony.http() as http:
        assert http.get("/healthz").json().keys() == {"status", "version"}
        assert http.head("/healthz").status_code == 200


def test_the_description_names_every_operation_once(colony: Colony) -> None:
    with colony.http() as http:
        document = http.get("/openapi.json").json()
    described = {
        entry["operationId"]: (method.upper(), path) for path, entries in document["paths"].items() for method, entry in entries.items()
    }
    assert described == {operation.name: (operation.method, operation.path) for operation in OPERATIONS.values()}
    for operation in OPERATIONS.values():
        entry = document["paths"][operation.path][operation.method.lower()]
        assert entry["summary"] == operation.summary
        said = {parameter["name"] for parameter in entry["parameters"]} - {"Colony-Turn", "Last-Event-ID"}
        said |= set(
            entry.get("requestBody", {"content": {"application/json": {"schema": {"properties": {}}}}})["content"]["application/json"][
                "schema"
            ]["properties"]
        )
        assert said == operation.request.model_fields.keys()
    assert set(document["components"]["schemas"]["Problem"]["required"]) <= set(schema.Problem.model_fields)


def test_the_descriptions_patterns_are_ones_that_others_can_read(colony: Colony) -> None:
    r"""OpenAPI's patterns are JavaScript's, where \A and \z mean the letters A and z."""
    with colony.http() as http:
        text = http.get("/openapi.json").text
    assert "\\\\A" not in text
    assert "\\\\z" not in text


RAW = [
    b"",
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /api/whoami HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /x\r\n\r\n",
    b"GET /api/whoami HTTP/1.1\r\nHost: x\r\nColony-Turn: \xff\r\n\r\n",
    b"GET /api/whoami HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    b"GET /api/channels/%ff%fe/messages HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/channels/%ed%a0%80/messages?since=%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/channels/\xff/messages HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/whoami HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET " + b"/x" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/whoami HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    b"POST /api/turns HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/turns HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/turns HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /api/turns HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{}",
]


def test_the_process_survives_every_kind_of_noise_on_its_ports(server: Server) -> None:
    for noise in RAW:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
            line.sendall(noise)
            line.shutdown(socket.SHUT_WR)
            answer = b""
            while part := line.recv(65536):
                answer += part
        assert not answer or b" 4" in answer.split(b"\r\n")[0] or b" 505 " in answer.split(b"\r\n")[0], (noise[:60], answer[:300])
    assert server.answers(server.http_url)
    assert "Traceback" not in server.log()


def test_a_chunked_body_beyond_the_bound_is_too_large(server: Server) -> None:
    with server.client(token_of("ann")) as ann:
        chunks = (b"x" * 65536 for _ in range(10))
        answer = ann._http.post("/api/channels/general/messages", content=chunks)
        assert problem(answer)["code"] == "too_large"


def test_statuses_and_codes_of_errors_are_what_the_table_says(colony: Colony) -> None:
    assert {kind.status for kind in errors.BY_CODE.values()} == {400, 401, 402, 403, 404, 405, 409, 413, 429, 500, 503, 507}
    assert len(get_args(schema.Status)) == 5
