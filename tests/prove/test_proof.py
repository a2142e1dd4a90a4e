"""The proof itself: it holds for this colony, on both databases, and fails for one that breaks its promise."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from colony.failpoints import POINTS
from prove import report, run
from prove.plan import Options
from prove.run import Proof
from tests.server.postgres import Postgres

pytestmark = pytest.mark.timeout(400)  # seconds; it takes one tenth of that where nothing else runs
SHORT = Options(kills=45, agents=3)


@pytest.fixture
def empty_postgres(postgres: Postgres) -> Iterator[str]:
    url = postgres.create("proof")
    yield url
    postgres.drop(url)


def proof_of(options: Options) -> Proof:
    said: list[str] = []
    proof = run.run(options, said.append)
    print(*said, sep="\n")
    report.table(proof)
    return proof


def require_that_it_holds(proof: Proof) -> None:
    assert proof.verdict.violations == {kind: [] for kind in proof.verdict.violations}
    assert proof.missed == []
    assert proof.holds
    assert sum(proof.kills.values()) >= proof.options.kills
    assert proof.kills["failpoint"] >= len(POINTS)
    assert proof.stops >= 1
    assert proof.verdict.answered >= proof.options.messages / 2
    assert not proof.folder.exists()


def test_nothing_is_lost_or_said_twice_on_sqlite() -> None:
    require_that_it_holds(proof_of(SHORT))


def test_nothing_is_lost_or_said_twice_on_postgresql(empty_postgres: str) -> None:
    require_that_it_holds(proof_of(replace(SHORT, seed=2, database_url=empty_postgres)))


def broken(flaw: str, *points: str, stops: tuple[str, ...] = ()) -> Proof:
    """What a proof finds when the server has this flaw and goes down at these points."""
    server = (sys.executable, "-m", "tests.prove.broken_server", flaw)
    struck = Options(kills=3 * len(points), points=points, stops=stops, messages=20)
    proof = proof_of(replace(struck, patience_seconds=20, server_argv=server))
    assert not proof.holds
    shutil.rmtree(proof.folder)  # where the evidence was kept
    return proof


def test_a_server_that_acknowledges_before_it_commits_is_caught() -> None:
    proof = broken("hasty", "database.before_commit")
    assert any("was acknowledged and is gone" in each for each in proof.verdict.lost)


def test_a_server_without_the_fence_is_caught() -> None:
    proof = broken("unfenced", "turn.before_exit", stops=("turn.before_post",))
    assert any("are the same post of turn" in each for each in proof.verdict.twice)


def test_a_server_that_forgets_client_ids_is_caught() -> None:
    proof = broken("forgetful", "server.before_wake.post")
    assert any("are the same message by ape" in each for each in proof.verdict.twice)
