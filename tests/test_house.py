"""The house rules: tables that must be whole, and what must never stand in a file."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from colony import errors, failures, operations, schema
from colony.operations import OPERATIONS, Operation
from server import gate
from server import operations as handlers
from server.http import mount
from server.models.tables import TABLES
from tests.server.samples import SAMPLES

ROOT = Path(__file__).parents[1]
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
every_error = pytest.mark.parametrize("error", errors.BY_CODE.values(), ids=lambda error: error.code)
every_failure = pytest.mark.parametrize("failure", failures.FAILURES.values(), ids=lambda failure: failure.code)


# --- operations


@every_operation
def test_an_operation_has_a_handler_a_summary_and_a_sample(operation: Operation[Any, Any]) -> None:
    handler = gate.HANDLERS[operation.name]
    hints = get_type_hints(handler)
    assert hints["request"] is operation.request
    assert operation.response in (hints["return"], *getattr(hints["return"], "__args__", ()))
    assert re.fullmatch(r"[A-Z].*[.]", operation.summary.splitlines()[0])
    assert operation.request.__doc__ is not schema.Request.__doc__
    assert operation.name in SAMPLES


@every_operation
def test_an_operation_is_well_formed(operation: Operation[Any, Any]) -> None:
    assert re.fullmatch("[a-z]+(_[a-z]+)*", operation.name)
    assert operation.path.startswith("/api/")
    assert set(operation.path_fields) <= operation.request.model_fields.keys()
    assert all(operation.request.model_fields[name].is_required() for name in operation.path_fields)
    assert operation.request.model_config["extra"] == "forbid"
    assert operation.response.model_config["extra"] == "ignore"
    assert operation.request.unaudited <= operation.request.model_fields.keys()


@every_operation
def test_what_a_response_holds_can_be_read_by_an_older_client(operation: Operation[Any, Any]) -> None:
    for model in (operation.response, schema.Problem):
        assert model.model_config["extra"] == "ignore"


def test_operations_differ_in_name_and_in_method_and_path() -> None:
    rows = [row for row in vars(operations).values() if isinstance(row, Operation)]
    assert len({row.name for row in rows}) == len({(row.method, row.path) for row in rows}) == len(rows) == len(OPERATIONS)
    assert len({row.request for row in rows}) == len(rows), "each operation has a request of its own"


def test_there_is_no_handler_without_an_operation() -> None:
    assert gate.HANDLERS.keys() == OPERATIONS.keys() == SAMPLES.keys()
    files = {path.stem for path in Path(handlers.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(handlers.__all__)
    assert callable(mount)


# --- errors and failures


@every_error
def test_an_error_says_what_it_means_in_one_sentence(error: type[errors.ColonyError]) -> None:
    assert error.__doc__
    assert re.fullmatch(r"[A-Z][^\n]*[.]", error.__doc__.strip())
    assert error().detail == error.__doc__.strip()
    assert error("other").detail == "other"
    assert 400 <= error.status < 600
    assert 1 <= error.exit_code <= 125
    assert re.fullmatch("[a-z_]+", error.code)


def test_errors_differ_in_their_codes() -> None:
    kinds = {kind for kind in (errors.ColonyError, *_below(errors.ColonyError)) if kind.__module__ == errors.__name__}
    assert len(errors.BY_CODE) == len(kinds)
    assert set(errors.BY_CODE.values()) == kinds
    assert errors.StaleTurn.exit_code != errors.Conflict.exit_code


def test_what_differs_for_a_script_differs_in_its_exit_code() -> None:
    """Errors with one exit code share an ancestor besides the root, or both refuse the caller."""
    refusals = {errors.Unauthenticated, errors.Forbidden}
    for kind in errors.BY_CODE.values():
        for other in errors.BY_CODE.values():
            if kind.exit_code == other.exit_code and kind is not other and {kind, other} != refusals:
                assert issubclass(kind, other) or issubclass(other, kind) or kind.__mro__[1] is other.__mro__[1] is errors.Invalid


@every_failure
def test_a_failure_has_a_reason_and_a_remedy_that_complete_their_sentences(failure: failures.Failure) -> None:
    assert failure.code in failures.FAILURES
    assert schema.FailTurn(id=1, code=failure.code)
    for text in (failure.says, failure.remedy):
        assert text
        assert not text.endswith(".")
        assert text[0].islower() or text.startswith("ANTHROPIC")
    assert not (failure.permanent and not failure.counted)


def test_the_table_of_failures_holds_all_of_them() -> None:
    rows = [row for row in vars(failures).values() if isinstance(row, failures.Failure)]
    assert {row.code: row for row in rows} == failures.FAILURES
    assert len(rows) == len(failures.FAILURES)


# --- files


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    found = [ROOT / name for name in listed.split("\0") if name]
    assert len(found) > 20
    return [path for path in found if path.is_file()]


# In two halves, so that this file doesn't hold them.
WORKPLACE = [
    "/work" + "/",
    "the " + "lead",
    "design" + ".md",
    "style" + ".md",
    "shared/" + "facts",
    "fire" + "cracker",
    "process_" + "api",
    "seed " + "36a",
]


def test_no_file_speaks_of_the_place_where_it_was_written() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace").lower()
        found += [f"{path.relative_to(ROOT)}: {word}" for word in WORKPLACE if word in text]
    assert found == []


def test_every_python_file_begins_by_saying_what_it_is_for() -> None:
    for path in tracked_files():
        if path.suffix == ".py" and (source := path.read_text()).strip():
            said = ast.get_docstring(ast.parse(source))
            assert said, path
            assert said.splitlines()[0].endswith((".", ":", "?")) or "\n" in said, path


def test_no_table_is_without_a_test_that_looks_into_it() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [table.name for table in TABLES if not re.search(rf"\b{table.name}\b", tests)] == []


def _below(kind: type[errors.ColonyError]) -> set[type[errors.ColonyError]]:
    return {child for direct in kind.__subclasses__() for child in (direct, *_below(direct))}


# --- what is promised


def test_each_promise_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    rows = [
        line.split(" | ") for line in page.partition("## What is promised")[2].partition("\n## ")[0].splitlines() if line.startswith("| ")
    ]
    assert rows[0] == ["| promise", "kept by", "seen in |"]
    for promise, _, seen in rows[1:]:
        tests = re.findall(r"`(tests/[a-z_/]+[.]py)`", seen)
        assert tests, promise
        assert all((ROOT / test).is_file() for test in tests), promise
