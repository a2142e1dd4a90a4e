"""The server keeps what its description promises, whatever a generator thinks of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

from colony.operations import OPERATIONS, Operation
from server.database import sqlite_url
from tests.server.cast import token_of
from tests.server.support import Clock, Colony

checks.load_all_checks()
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
REFUSALS = ["400", "401", "403", "404", "405", "409", "413"]  # what may become of a request that the description forbids


@pytest.fixture(scope="module")
def house(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colony]:
    """One colony for all examples: what earlier ones left behind is part of the game."""
    url = sqlite_url(copyfile(sqlite_file, tmp_path_factory.mktemp("openapi") / "colony.db"))
    colony = Colony(url, Clock())
    yield colony
    colony.close()


@pytest.fixture(scope="module")
def described(house: Colony) -> schemathesis.BaseSchema:
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}})
    return schemathesis.openapi.from_wsgi("/openapi.json", house.app, config=config)


@pytest.mark.parametrize("who", ["ann", "scout"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_every_operation_answers_as_described(described: schemathesis.BaseSchema, operation: Operation[Any, Any], who: str) -> None:
    found = described[operation.path][operation.method]
    for mode, examples in ((GenerationMode.POSITIVE, 12), (GenerationMode.NEGATIVE, 8)):

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=found.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            # An empty list or object leaves no trace in a query: what was forbidden about it never arrives.
            assume(all(value not in ([], {}, None) for value in (case.query or {}).values()))
            if isinstance(case.query, dict) and "wait" in case.query:
                case.query["wait"] = 0
            if isinstance(case.body, dict) and isinstance(wait := case.body.get("wait"), int | float):
                case.body["wait"] = min(wait, 0)
            case.call_and_validate(headers={"Authorization": f"Bearer {token_of(who)}", "Accept": "application/json"}, checks=CHECKS)

        try:
            check()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "nothing valid can be made from the description"
