"""docs/apart.md: the table of attempts for people. `python -m tests.host.apart.page` makes it again."""

from __future__ import annotations

from pathlib import Path

from tests.host.apart.attempts import ATTEMPTS, OPEN
from tests.host.apart.table import Who

PAGE = Path(__file__).parents[3] / "docs" / "apart.md"
HEAD = """\
# Apart

What two agents, an ordinary user and the server itself have tried to do to each other and to their host, on a machine with a real systemd,
and what refused it. Made from the table that the tests try ([`tests/host/apart/`](../tests/host/apart/attempts.py)). Each row is tried
three times: it ends as it says here; the very same succeeds for whom it may; and where a single setting refuses it, it ends otherwise
once that setting is taken away.
"""


def made() -> str:
    """All of the page."""
    sections = [HEAD]
    for who in Who:
        rows = [(attempt.says, *attempt.refused[who]) for attempt in ATTEMPTS if who in attempt.refused]
        lines = [f"| {says} | {guard.value} | {ends} |" for says, ends, guard in rows]
        if rows:
            sections.append("\n".join([f"## Tried by {who.value}", "", "| what | refused by | ends |", "|---|---|---|", *lines, ""]))
    left = [f"| {each.says} | {each.who.value} | {each.because} |" for each in OPEN]
    if left:
        sections.append("\n".join(["## What is not refused", "", "| what | by | because |", "|---|---|---|", *left, ""]))
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(made())
