"""Tells in sentences what became of a message, and what an agent is doing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from colony import egress, schema

MAX_OPENING = 80  # characters of another message that a line quotes


@dataclass(frozen=True)
class Words:
    """A sentence; its moments are told as whoever reads it wants them."""

    words: tuple[str | datetime, ...]
    indent: int = 0


def explained(answer: schema.Explanation) -> Iterator[Words]:
    for fate in answer.fates:
        yield Words((f"{fate.receiver} ({fate.trigger}): ", *_end(fate, answer.message.id)))
        for again in fate.retries:
            where = f" in turn {again.turn_id}" if again.turn_id else ""
            yield Words((f"{again.by} had it retried ", again.at, f"; it was {again.outcome} before{where}"), 1)
    if answer.left_out:
        yield Words((f"and {answer.left_out} more receivers",))
    for turn in answer.turns:
        yield from _course(turn)
    for message in answer.answers:
        yield Words((f"it answers {_quoted(message)}",))
    for note in answer.notes:
        yield Words((f"note: {note}",))


def attempts(turn: schema.Turn) -> Iterator[Words]:
    """How each attempt of the turn went, as far as they are known."""
    for attempt in turn.attempts:
        ended = "finished" if attempt.error_code is None else _error(attempt.error_code, attempt.error)
        yield Words((f"attempt {attempt.number}, {attempt.seconds:.0f} s: ", "; ".join([ended, *_taken(attempt)])), 1)
        yield from _reached(turn, attempt.number)
    if turn.state == "running":
        yield Words((f"attempt {turn.attempt} runs",), 1)
        yield from _reached(turn, turn.attempt)


def activity(agent: schema.Agent) -> Words | None:
    """What the agent is doing, and what is wrong with it; None for one that waits."""
    said: list[str | datetime] = []
    if agent.turn_id and agent.working_since:
        where = f" in #{agent.turn_channel}" if agent.turn_channel else ""
        turn = f"{where} (turn {agent.turn_id}, attempt {agent.turn_attempt})"
        said += ["lost contact ", agent.contact_lost_at, turn] if agent.contact_lost_at else ["working since ", agent.working_since, turn]
    elif agent.held_until:
        said += ["has to wait, goes on ", agent.held_until]
    if agent.silent_since:
        said += ["; " if said else "", "silent since ", agent.silent_since]
    if agent.overdue_since:
        said += ["; " if said else "", "lets messages wait since ", agent.overdue_since]
    return Words(tuple(said)) if said else None


def left(whose: schema.Agent | schema.Allowance) -> str | None:
    """What an agent's own limits leave it, or the colony's leave all of them; None without any."""
    said = []
    if whose.budget_usd_per_day is not None:
        usd = max(0.0, whose.budget_usd_per_day - whose.cost_usd_today)
        said.append(f"${usd:.2f} of ${whose.budget_usd_per_day:.2f} today")
    if whose.turns_per_hour is not None:
        turns = max(0, whose.turns_per_hour - whose.turns_this_hour)
        said.append(f"{turns} of {whose.turns_per_hour} turns this hour")
    return ", ".join(said) or None


def retried(answer: schema.Retried) -> Sequence[Words]:
    done = [Words((f"{name} handles message {answer.message_id} once more",)) for name in answer.retried]
    return done + [Words((f"{name} has message {answer.message_id} in its inbox anyway",)) for name in answer.waiting]


def rule(rule: schema.EgressRule) -> Words:
    return Words((f"{rule.agent}: {rule.effect} {rule.host} ({_with_ports(rule)})",))


def ports(rule: schema.EgressRule) -> str:
    """The ports that the rule means."""
    return ",".join(map(str, rule.ports or (egress.WEB_PORTS if rule.effect == "allow" else ()))) or "all"


def verdict(answer: schema.EgressVerdict) -> Words:
    may = "may" if answer.allowed else "may not"
    rule = answer.rule
    why = f"{rule.agent} {rule.effect} {rule.host} ({_with_ports(rule)})" if rule else answer.reason
    return Words((f"{answer.agent} {may} reach {egress.joined(answer.host, [answer.port])}: {why}",))


def right(answer: schema.AclVerdict) -> Words:
    may = "may not" if answer.effect == "deny" else "may"
    where = "" if answer.scope == "*" else f" {answer.scope}"
    when = " once a person approves it" if answer.effect == "hold" else ""
    return Words((f"{answer.user} {may} {answer.action}{where}{when}: {answer.reason}",))


def approval(answer: schema.Approval) -> Words:
    by = f" by {answer.decided_by}" if answer.decided_by else ""
    what = f"{answer.user} asks to {answer.operation} {answer.arguments}"
    return Words((f"#{answer.id} is {answer.state}{by}, until ", answer.expires_at, f": {what}"))


def secret(secret: schema.Secret) -> Words:
    how = f"in the header {secret.header}" if secret.header else f"in the place of {secret.placeholder}"
    how += " and in the path" if secret.in_path and secret.header else ", also in the path" if secret.in_path else ""
    ways = [f"{how}, to {', '.join(secret.hosts)}"] if secret.hosts else []
    ways += ["held by command runners, in their environment"] if secret.as_environment else []
    return Words((f"{secret.agent}: {secret.name}, {'; '.join(ways)}",))


def _with_ports(rule: schema.EgressRule) -> str:
    said = ports(rule)
    return f"port {said}" if said.isdigit() else "all ports" if said == "all" else f"ports {said.replace(',', ', ')}"


def _reached(turn: schema.Turn, attempt: int) -> Iterator[Words]:
    """What the attempt asked of the network, as far as the reader may know."""
    for each in turn.reached:
        if each.attempt == attempt:
            times = f" ×{each.contacts}" if each.contacts > 1 else ""
            moved = f", sent {each.sent_bytes:,} bytes, received {each.received_bytes:,}" if each.sent_bytes or each.received_bytes else ""
            yield Words((f"{each.verdict} {egress.joined(each.host, [each.port])}{times}{moved}",), 2)
    if more := turn.reached_left_out.get(attempt):
        yield Words((f"and {more:,} more: colony egress log {turn.agent} --turn {turn.id}",), 2)


def _end(fate: schema.Fate, message_id: int) -> tuple[str | datetime, ...]:
    """What came of the message for one receiver, after their name."""
    at, turn = fate.acked_at or fate.created_at, f" in turn {fate.turn_id}" if fate.turn_id else ""
    match fate.outcome:
        case "answered":
            return "answered ", at, turn
        case "ignored":
            return "read ", at, f"{turn}, had nothing to say"
        case "by_hand":
            return "closed by hand ", at
        case "suppressed":
            return (f"not woken, because of the loop guard; `colony retry {message_id}` wakes it",)
        case "dead":
            return "given up ", at, f"{turn}; `colony retry {message_id}` tries again"
    tried = f", tried {fate.attempts} times" if fate.attempts > 1 else ""
    if fate.not_before and not fate.waits_for:
        return "waits since ", fate.created_at, f"{tried}; is tried again ", fate.not_before
    return "waits since ", fate.created_at, tried, f": {fate.waits_for}" if fate.waits_for else ""


def _course(turn: schema.Turn) -> Iterator[Words]:
    where = f" in #{turn.channel}" if turn.channel else ""
    counted = "1 attempt" if turn.attempt == 1 else f"{turn.attempt} attempts"
    spent = "".join(f", {spent}" for spent in _spent(turn.tokens_in, turn.tokens_out, turn.cost_usd))
    yield Words((f"turn {turn.id} of {turn.agent}: {turn.kind}{where}, {turn.state}, {counted}, began ", turn.started_at, spent))
    yield from attempts(turn)
    if turn.error_code:
        remedy = f". What helps: {turn.remedy}" if turn.remedy else ""
        yield Words((f"error: {_error(turn.error_code, turn.error)}{remedy}",), 1)
    for post in turn.posts:
        yield Words((f"posted {_quoted(post)}",), 1)


def _taken(attempt: schema.Attempt) -> list[str]:
    prompt = [f"prompt of {attempt.prompt_characters:,} characters"] if attempt.prompt_characters else []
    used = ", ".join(f"{name} ×{count}" for name, count in attempt.tools.items())
    return [*prompt, *([f"tools: {used}"] if used else []), *_spent(attempt.tokens_in, attempt.tokens_out, attempt.cost_usd)]


def _spent(tokens_in: int, tokens_out: int, cost_usd: float) -> list[str]:
    return [f"{tokens_in:,} + {tokens_out:,} tokens, ${cost_usd:.4f}"] if tokens_in or tokens_out or cost_usd else []


def _error(code: str, detail: str | None) -> str:
    return f"{code} ({detail})" if detail else code


def _quoted(message: schema.Message) -> str:
    opening = " ".join(message.body.split())
    cut = opening if len(opening) <= MAX_OPENING else opening[:MAX_OPENING] + "…"
    return f"{message.channel}#{message.seq} by {message.author}, id {message.id}: {cut}"
