"""Prices that vendors publish for their own services. Where they come from: docs/decisions/0116."""

from __future__ import annotations

from collections.abc import Mapping

from portway.server.models.known import family_of
from portway.server.models.prices.types import Price
from portway.server.models.vendors import ProviderKind

# The day on which these were last compared with a second source; it goes with every cost computed by them.
VERSION = "2026-11-21"


def _usd(given: float, answered: float = 0.0, cached: float = 0.0) -> Price:
    """US dollars for a million tokens."""
    return Price(round(given * 1e6), round(answered * 1e6), round(cached * 1e6))


_PRICES: Mapping[ProviderKind, Mapping[str, Price]] = {
    ProviderKind.OPENAI: {
        "gpt-4o": _usd(2.5, 10, 1.25),
        "gpt-4o-mini": _usd(0.15, 0.6, 0.075),
        "gpt-4.1": _usd(2, 8, 0.5),
        "gpt-4.1-mini": _usd(0.4, 1.6, 0.1),
        "gpt-4.1-nano": _usd(0.1, 0.4, 0.025),
        "o3": _usd(2, 8, 0.5),
        "o4-mini": _usd(1.1, 4.4, 0.275),
        "gpt-5": _usd(1.25, 10, 0.125),
        "gpt-5-mini": _usd(0.25, 2, 0.025),
        "gpt-5-nano": _usd(0.05, 0.4, 0.005),
        "text-embedding-3-small": _usd(0.02),
        "text-embedding-3-large": _usd(0.13),
    },
    ProviderKind.ANTHROPIC: {
        "claude-opus-4-1": _usd(15, 75, 1.5),
        "claude-opus-4-5": _usd(5, 25, 0.5),
        "claude-haiku-4-5": _usd(1, 5, 0.1),
    },
    ProviderKind.GEMINI: {
        "gemini-2.5-flash": _usd(0.3, 2.5, 0.03),
        "gemini-2.5-flash-lite": _usd(0.1, 0.4, 0.01),
    },
}


def built_in_price(kind: ProviderKind, name: str) -> Price | None:
    """The vendor's price of its model `name`; `None` where it is not in the list."""
    return _PRICES.get(kind, {}).get(family_of(name))
