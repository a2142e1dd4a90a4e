"""What may leave: the server's rules as last heard, and the gate's judgement by them. Whatever goes wrong here means no."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from colony import egress, schema
from egress import address
from egress.address import Address
from egress.refusals import Blind, Denied, Stranger

log = logging.getLogger(__name__)

Rules = list[schema.EgressRule]
Decide = Callable[[Rules, str, int], egress.Verdict[schema.EgressRule]]


def since_boot() -> float:
    """Seconds, those that the machine slept through among them: rules grow old in its sleep, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Policy:
    """The rules of all agents. One thread tells it what it hears; any may ask."""

    def __init__(self, away_seconds: float, decide: Decide = egress.decide, clock: Callable[[], float] = since_boot) -> None:
        self._away_seconds, self._decide, self._clock = away_seconds, decide, clock
        self._known: schema.EgressPolicy | None = None
        self._heard_at = 0.0

    @property
    def version(self) -> str | None:
        return self._known.version if self._known else None

    def hear(self, policy: schema.EgressPolicy) -> bool:
        """What the server says now; whether that is news."""
        is_news = policy.version != self.version
        self._known, self._heard_at = policy, self._clock()
        return is_news

    def rules(self, user: str | None) -> Rules:
        """The rules of the agent who is that Linux user. Raises `Blind` while they aren't known, `Stranger` for anybody else."""
        if user is None:
            raise Stranger()
        known = self._known
        if known is None:
            raise Blind("the gate has not heard any rules since it began, so nothing may leave")
        silent = self._clock() - self._heard_at
        if silent > self._away_seconds:
            raise Blind(f"the colony's server has been away for {silent:.0f} s, so nothing may leave until it is back")
        if user not in known.agents:
            raise Stranger()
        return known.agents[user]

    def require(self, user: str, host: str, port: int) -> None:
        """Raises `Denied` unless the agent may reach that host, whose addresses are not known yet."""
        rules = self.rules(user)
        try:
            decision = self._decide(rules, host, port)
            is_allowed, reason = decision.is_allowed is True, str(decision.reason)
        except Exception as error:  # whatever it is: what can't be judged must not leave
            log.exception("the rules could not be applied user=%s", user)
            raise Denied("the rules could not be applied, so nothing may leave") from error
        if not is_allowed:
            raise Denied(reason)

    def require_everything(self, user: str) -> None:
        """Raises `Denied` unless the agent may reach every name, without exceptions."""
        rules = self.rules(user)
        if not any(rule.effect == "allow" and rule.host == "*" for rule in rules) or any(rule.effect != "allow" for rule in rules):
            raise Denied("only an agent that may reach every name (a rule `allow *`, and none that denies) may have the API do this")

    def require_addresses(self, user: str, host: str, port: int, found: Sequence[Address]) -> None:
        """Raises `Denied` if one of the addresses that the host has is forbidden, or denied by a rule that names it."""
        rules = self.rules(user)
        for each in found:
            try:
                named = [rule for rule in rules if rule.host == str(each)]
                verdict = self._decide(named, str(each), port)
                is_denied = verdict.is_allowed is not True and verdict.rule is not None
                is_shut = address.is_forbidden(each) or address.is_own(each)
                is_refused = is_denied or (is_shut and verdict.is_allowed is not True)
            except Exception as error:
                log.exception("an address could not be judged user=%s", user)
                raise Denied("the host's addresses could not be judged, so nothing may leave") from error
            if is_refused:
                why = "a rule denies that address" if is_denied else "no agent may reach such an address unless a rule names it"
                raise Denied(f"{host} is at {each}: {why}")
