"""What is left when all is over, seen from the outside, and whether it is what was promised."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from colony import operations, schema
from colony.client import Client
from prove.brain import ANSWER, ASIDE
from prove.load import Asked

PAGE = 500
_ANSWER = re.compile(rf"{ANSWER} ([0-9 ]+)")
_ASIDE = re.compile(rf"{ASIDE} ([0-9]+)")
_REGRET = re.compile(r"(\S+) could not answer (#[0-9]+(?:, #[0-9]+)*):")


@dataclass(frozen=True)
class History:
    asked: list[Asked]
    messages: list[schema.Message]  # of all channels, as they are read
    last_seqs: dict[str, int]  # by channel
    waiting: dict[str, set[int]]  # by agent: the messages that are still in its inbox
    unfinished: list[schema.Turn]  # turns that have not come to an end


@dataclass
class Verdict:
    """Every list names the evidence; all of them are empty when the promise was kept."""

    lost: list[str] = field(default_factory=list)  # acknowledged and gone, or a mention with neither answer nor notice
    twice: list[str] = field(default_factory=list)  # said or answered more than once
    unknown: list[str] = field(default_factory=list)  # no end came
    phantom: list[str] = field(default_factory=list)  # said by nobody, or an answer to nothing
    gaps: list[str] = field(default_factory=list)  # numbers left out or given twice
    answered: int = 0  # mentions with an answer
    given_up: int = 0  # mentions with a notice that says why there is none

    @property
    def violations(self) -> dict[str, list[str]]:
        return {name: getattr(self, name) for name in ("lost", "twice", "unknown", "phantom", "gaps")}

    @property
    def is_kept(self) -> bool:
        return not any(self.violations.values())


def collect(client: Client, agents: Iterable[str], asked: list[Asked]) -> History:
    """The history as an administrator's operations tell it."""
    channels = client.call(operations.CHANNELS, schema.ListChannels()).channels
    messages = [message for channel in channels for message in _read(client, channel.name)]
    waiting, unfinished = {}, []
    for agent in agents:
        items = client.call(operations.INBOX, schema.ReadInbox(user=agent, limit=PAGE)).items
        waiting[agent] = {item.message.id for item in items}
        turns = client.call(operations.TURNS, schema.ListTurns(agent=agent, limit=PAGE)).turns
        unfinished += [turn for turn in turns if turn.state in ("running", "resting")]
    return History(asked, messages, {channel.name: channel.last_seq for channel in channels}, waiting, unfinished)


def check(history: History) -> Verdict:
    """Compare what was asked with what is there."""
    verdict = Verdict()
    _check_numbers(history, verdict)
    _check_posts(history, verdict)
    _check_answers(history, verdict)
    _check_asides(history, verdict)
    verdict.unknown += [f"turn {turn.id} of {turn.agent} is {turn.state}" for turn in history.unfinished]
    return verdict


def _read(client: Client, channel: str) -> Iterator[schema.Message]:
    since = 0
    while found := client.call(operations.READ, schema.ReadMessages(channel=channel, since=since, limit=PAGE)).messages:
        yield from found
        since = found[-1].seq


def _check_numbers(history: History, verdict: Verdict) -> None:
    for channel, last_seq in history.last_seqs.items():
        found = [message.seq for message in history.messages if message.channel == channel]
        if found != list(range(1, last_seq + 1)):
            odd = sorted({*range(1, last_seq + 1)} ^ {*found}) or [seq for seq, count in Counter(found).items() if count > 1]
            verdict.gaps.append(f"#{channel}: {odd[:10]} of {last_seq}")


def _check_posts(history: History, verdict: Verdict) -> None:
    """Each ape's message is there once, as it was acknowledged, and nobody else's."""
    said = {(asked.author, asked.channel, asked.body): asked for asked in history.asked}
    stored = defaultdict(list)
    for message in history.messages:
        if message.author_kind == "ape":
            stored[message.author, message.channel, message.body].append(message)
        elif message.author_kind != "agent" and message.type != "notice":
            verdict.phantom.append(f"{_place(message)} by {message.author}")
    for key, messages in stored.items():
        if key not in said:
            verdict.phantom += [f"{_place(message)} by {message.author}" for message in messages]
        if len(messages) > 1:
            verdict.twice.append(f"{' and '.join(map(_place, messages))} are the same message by {messages[0].author}")
    for key, asked in said.items():
        found = stored[key]
        if asked.id is None:
            if not found:
                verdict.lost.append(f"a message by {asked.author} was never acknowledged: {asked.body}")
        elif (asked.id, asked.seq) not in [(message.id, message.seq) for message in found]:
            verdict.lost.append(f"message {asked.id} (#{asked.channel} {asked.seq}) was acknowledged and is gone")


def _check_answers(history: History, verdict: Verdict) -> None:
    """Each mention has one answer or one notice, and each answer a mention."""
    bodies = {(asked.author, asked.channel, asked.body): asked.mentions for asked in history.asked}
    mentions = {message.id: bodies.get((message.author, message.channel, message.body), frozenset()) for message in history.messages}
    answers, regrets = _answers(history, verdict), _regrets(history)
    for agent, message_id in answers.keys() | regrets.keys():
        if agent not in mentions.get(message_id, ()):
            place = _place((answers[agent, message_id] or regrets[agent, message_id])[0])
            verdict.phantom.append(f"{place} answers message {message_id}, which does not ask {agent}")
    for message in history.messages:
        for agent in sorted(mentions[message.id]):
            found = answers[agent, message.id], regrets[agent, message.id]
            ends = [*found[0], *found[1]]
            if len(ends) > 1:
                verdict.twice.append(f"{_place(message)} was answered by {agent} in {' and '.join(map(_place, ends))}")
            elif not ends and message.id in history.waiting.get(agent, ()):
                verdict.unknown.append(f"{_place(message)} still waits for {agent}")
            elif not ends:
                verdict.lost.append(f"{_place(message)} got neither answer nor notice from {agent}")
            elif message.id in history.waiting.get(agent, ()):
                verdict.unknown.append(f"{_place(message)} was answered by {agent} and still waits for it")
            verdict.answered += len(found[0]) == 1
            verdict.given_up += len(ends) == len(found[1]) == 1


def _answers(history: History, verdict: Verdict) -> defaultdict[tuple[str, int], list[schema.Message]]:
    """The replies, by agent and by message that they answer."""
    found = defaultdict(list)
    for message in history.messages:
        if message.author_kind == "agent" and not _ASIDE.fullmatch(message.body):
            match = _ANSWER.fullmatch(message.body)
            if not match:
                verdict.phantom.append(f"{_place(message)} by {message.author}")
            for number in match[1].split() if match else ():
                found[message.author, int(number)].append(message)
    return found


def _regrets(history: History) -> defaultdict[tuple[str, int], list[schema.Message]]:
    """The notices that there will be no answer, by agent and message."""
    ids = {(message.channel, message.seq): message.id for message in history.messages}
    found = defaultdict(list)
    for message in history.messages:
        if message.type == "notice" and (match := _REGRET.search(message.body)):
            for number in match[2].split(", "):
                found[match[1], ids.get((message.channel, int(number[1:])), 0)].append(message)
    return found


def _check_asides(history: History, verdict: Verdict) -> None:
    """What a turn said with its tools is there once, if the turn has answered, and in nobody else's name."""
    asides = defaultdict(list)
    answering = {message.turn_id: message for message in history.messages if _ANSWER.fullmatch(message.body) and message.turn_id}
    for message in history.messages:
        if message.author_kind == "agent" and (match := _ASIDE.fullmatch(message.body)):
            asides[int(match[1])].append(message)
            if int(match[1]) != message.turn_id:
                verdict.phantom.append(f"{_place(message)} by {message.author} was posted in turn {message.turn_id}")
    for turn, messages in asides.items():
        if len(messages) > 1:
            verdict.twice.append(f"{' and '.join(map(_place, messages))} are the same post of turn {turn}")
    for turn, reply in answering.items():
        if turn not in asides:
            verdict.lost.append(f"turn {turn} has answered in {_place(reply)}, but its other post is gone")


def _place(message: schema.Message) -> str:
    return f"message {message.id} (#{message.channel} {message.seq})"
