"""Shows a proof: a table for people, a document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from colony import show
from prove.run import Proof

EVIDENCE_SHOWN = 20  # of each kind


def table(proof: Proof) -> None:
    """Write the figures to stdout, and what went wrong after them."""
    record = show.Record(list(_figures(proof).items()))
    if sys.stdout.isatty():
        from colony import terminal

        terminal.write([record], sys.stdout, datetime.now(UTC))
    else:
        print(show.plain(record))
    for line in _evidence(proof):
        print(show.clean(line))


def document(proof: Proof) -> None:
    """Write everything as one JSON document to stdout."""
    evidence = {**proof.verdict.violations, "missed": proof.missed}
    print(json.dumps({**_figures(proof), "holds": proof.holds, "evidence": evidence, "folder": None if proof.holds else str(proof.folder)}))


def _figures(proof: Proof) -> dict[str, show.Cell]:
    verdict, points = proof.verdict, proof.options.points
    return {
        "seed": proof.options.seed,
        "database": "PostgreSQL" if proof.options.database_url else "SQLite",
        "sandbox": proof.sandbox,
        "kills": sum(proof.kills.values()),
        **{f"  at a {kind}" if kind == "failpoint" else f"  of a {kind}": count for kind, count in sorted(proof.kills.items())},
        "stops past the lease": proof.stops,
        "failpoints hit": f"{len(points) - len(proof.missed)} of {len(points)}",
        "messages": proof.messages,
        "turns": proof.turns,
        "mentions answered": verdict.answered,
        "given up, with a notice": verdict.given_up,
        **{name: len(found) for name, found in verdict.violations.items()},
        "seconds": round(proof.seconds),
    }


def _evidence(proof: Proof) -> Iterator[str]:
    if proof.holds:
        return
    for kind, found in proof.verdict.violations.items():
        yield from (f"{kind}: {each}" for each in found[:EVIDENCE_SHOWN])
        if len(found) > EVIDENCE_SHOWN:
            yield f"{kind}: and {len(found) - EVIDENCE_SHOWN} more"
    if proof.missed:
        yield f"never hit: {', '.join(proof.missed)}"
    yield f"everything is kept in {proof.folder}"
