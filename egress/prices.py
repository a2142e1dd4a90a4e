"""What the model's API costs: dollars for a million tokens, by the model's name.

They are published under https://docs.claude.com/en/docs/about-claude/pricing, and may be others by now: what differs there, or is paid for
otherwise, the gate's settings say. What exceeds 200,000 tokens of input may cost more there, and is not counted so here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MILLION = 1e6
CACHE_READ, CACHE_WRITE, CACHE_WRITE_HOUR = 0.1, 1.25, 2.0  # times the input's price
WEB_SEARCH_USD = 0.01  # each
FAST = 6.0  # times the price of a request that asks for `"speed": "fast"`


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float


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
    "claude-3-5-sonnet": Price(3, 15),
    "claude-3-7-sonnet": Price(3, 15),
    "claude-sonnet-4": Price(3, 15),
    "claude-3-opus": Price(15, 75),
    "claude-opus-4": Price(15, 75),
    "claude-opus-4-5": Price(5, 25),
    "claude-opus-4-6": Price(5, 25),
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
        cached = tokens.cache_read * CACHE_READ + tokens.cache_write * CACHE_WRITE + tokens.cache_write_hour * CACHE_WRITE_HOUR
        text = ((tokens.input + cached) * price.input + tokens.output * price.output) / MILLION
        return text * (FAST if is_fast else 1.0) + tokens.web_searches * WEB_SEARCH_USD
