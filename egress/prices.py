"""What the model's API costs: dollars for a million tokens, by the model's name.

As they were published in October 2026 under https://platform.claude.com/docs/en/about-claude/pricing. They may be others by now: what
differs there, or is paid for otherwise, the gate's settings say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MILLION = 1e6
CACHE_WRITE, CACHE_WRITE_HOUR = 1.25, 2.0  # times the input's price
WEB_SEARCH_USD = 0.01  # each
FAST = 6.0  # times the price of a request that asks for `"speed": "fast"`, at most: it is 2 for newer models


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens; `times` as much where a question has more than `long` of them."""

    input: float
    output: float
    cache_read: float = 0.1  # times the input's
    long: int | None = None
    times: float = 1.0


@dataclass(frozen=True)
class Tokens:
    """Those of one request. `input` are those that no cache has to do with."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_hour: int = 0  # for an hour instead of five minutes
    web_searches: int = 0

    @property
    def all_in(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_hour


# The longest beginning of a model's name counts.
KNOWN = {
    "claude-3-haiku": Price(0.25, 1.25),
    "claude-3-5-haiku": Price(0.8, 4),
    "claude-haiku-4": Price(1, 5),
    "claude-haiku-5-5": Price(0.1, 0.5, long=100_000, times=5),
    "claude-3-5-sonnet": Price(3, 15),
    "claude-3-7-sonnet": Price(3, 15),
    "claude-sonnet-4": Price(3, 15, long=200_000, times=2),
    "claude-sonnet-4-6": Price(3, 15),
    "claude-sonnet-5": Price(2, 10),
    "claude-3-opus": Price(15, 75),
    "claude-opus-4": Price(15, 75),
    **dict.fromkeys(("claude-opus-4-5", "claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8", "claude-opus-5"), Price(5, 25)),
    "claude-opus-5-5": Price(4, 20, cache_read=0.05),
    **dict.fromkeys(("claude-fable-5", "claude-mythos-5"), Price(10, 50)),
    **dict.fromkeys(("claude-fable-5-1", "claude-mythos-5-1"), Price(10, 50, cache_read=0.025)),
}
DEAREST = max(KNOWN.values(), key=lambda price: price.output)


@dataclass(frozen=True)
class Prices:
    """`own` come from the settings, and before those that are known."""

    own: Mapping[str, Price] = field(default_factory=dict)

    def of(self, model: str) -> Price:
        """The price of a model; of an unknown one the dearest that is known, so that a new name is no way around a budget."""
        for table in (self.own, KNOWN):
            if found := max((name for name in table if model.startswith(name)), key=len, default=""):
                return table[found]
        return DEAREST

    def usd(self, model: str, tokens: Tokens, *, is_fast: bool = False) -> float:
        price = self.of(model)
        cached = tokens.cache_read * price.cache_read + tokens.cache_write * CACHE_WRITE + tokens.cache_write_hour * CACHE_WRITE_HOUR
        text = ((tokens.input + cached) * price.input + tokens.output * price.output) / MILLION
        is_long = price.long is not None and tokens.all_in > price.long
        return text * (FAST if is_fast else 1.0) * (price.times if is_long else 1.0) + tokens.web_searches * WEB_SEARCH_USD
