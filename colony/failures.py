"""Why a turn can fail: one row per reason, read by the agent that reports it and the server that acts on it."""

from __future__ import annotations

from dataclasses import dataclass

HELPS = ". What helps: "  # between a reason and its remedy, where an agent's note says why it waits
MAX_FAILURES = 5  # counted failures of one turn, after which its items are dead
FIRST_BACKOFF_SECONDS = 30
MAX_BACKOFF_SECONDS = 3600


@dataclass(frozen=True)
class Failure:
    code: str
    says: str  # completes the sentence "scout could not answer: …"
    remedy: str  # what a person can do about it
    counted: bool = True  # False: the turn waits for as long as it takes, and so does the whole agent
    permanent: bool = False  # True: another attempt would end the same way
    can_be_retried: bool = True  # False: `colony retry` would end the same way
    hold_seconds: int = 60  # for an uncounted failure: how long the agent waits when nobody said


RATE_LIMITED = Failure("rate_limited", "the model's API limits its rate", "it tries again by itself", counted=False)
OVERLOADED = Failure("overloaded", "the model's API is overloaded", "it tries again by itself", counted=False, hold_seconds=30)
UNREACHABLE = Failure("unreachable", "the model's API can't be reached", "check the network and ANTHROPIC_BASE_URL", counted=False)
CREDENTIALS_REJECTED = Failure(
    "credentials_rejected", "the model's API rejected the credentials", "give the agent a valid key", counted=False, hold_seconds=300
)
PROMPT_TOO_LONG = Failure(
    "prompt_too_long",
    "the prompt is too long for the model",
    "mention it with a shorter message",
    permanent=True,
    can_be_retried=False,
)
OVER_BUDGET = Failure("over_budget", "it has cost as much as one turn may", "mention it again, with a smaller task", permanent=True)
TIMED_OUT = Failure("timed_out", "the turn took too long", "mention it again, with a smaller task")
TOOLS_FAILED = Failure("tools_failed", "its colony tools did not start", "see the agent's log")
CRASHED = Failure("crashed", "its runner crashed", "see the agent's log, then mention it again")
LOST = Failure("lost", "the process that ran the turn disappeared", "see the agent's log, then mention it again")
GONE = Failure("gone", "it is no longer part of the colony", "mention another agent", permanent=True, can_be_retried=False)
STOPPED = Failure("stopped", "the turn was stopped", "it goes on when the agent does", counted=False, hold_seconds=0)
CANCELLED = Failure("cancelled", "a person stopped its turn", "mention it again, or somebody else", permanent=True)
BETRAYED = Failure(
    "betrayed", "it was about to give away a token that lies in its sandbox to be stolen", "read what it was told", permanent=True
)
REMOVED = Failure("removed", "it is no member of this channel any more", "invite it again with `colony invite`", permanent=True)
UNREADABLE = Failure("unreadable", "the message can't be read", "post it again", permanent=True, can_be_retried=False)
FORBIDDEN = Failure(
    "forbidden",
    "it may not answer here",
    "its owner or an administrator can change that with `colony acl`",
    permanent=True,
    can_be_retried=False,
)

FAILURES: dict[str, Failure] = {
    failure.code: failure
    for failure in (
        RATE_LIMITED,
        OVERLOADED,
        UNREACHABLE,
        CREDENTIALS_REJECTED,
        PROMPT_TOO_LONG,
        OVER_BUDGET,
        TIMED_OUT,
        TOOLS_FAILED,
        CRASHED,
        LOST,
        GONE,
        STOPPED,
        CANCELLED,
        BETRAYED,
        REMOVED,
        UNREADABLE,
        FORBIDDEN,
    )
}


def backoff_seconds(failures: int, first_seconds: float = FIRST_BACKOFF_SECONDS) -> float:
    """How long a turn rests after its `failures`-th counted failure: 30 s, doubling, at most 1 h."""
    return min(first_seconds * 2.0 ** min(max(failures - 1, 0), 16), MAX_BACKOFF_SECONDS)
