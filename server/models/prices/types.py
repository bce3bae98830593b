"""Prices and what a call costs by them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.server.models.types import Cost, ManagedBy, Usage
from portway.server.storage_engine.documents import to_json

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-units of `currency` for a million tokens, and for each call. `cached_input_micros` 0: as other input.

    Reasoning is part of the output and costs the same, as the vendors bill it.
    """

    input_micros: int = 0
    output_micros: int = 0
    cached_input_micros: int = 0
    request_micros: int = 0
    currency: str = "USD"

    def cost(self, usage: Usage) -> int | None:
        """Micro-units; `None` where what is charged for was not told."""
        counted = (usage.input_tokens, self.input_micros), (usage.output_tokens, self.output_micros)
        if any(tokens is None and micros for tokens, micros in counted):
            return None
        given = usage.input_tokens or 0
        # A provider that says nothing of its cache gave no discount.
        cached = min(usage.cached_tokens or 0, given)
        cached_micros = self.cached_input_micros or self.input_micros
        product = (
            (given - cached) * self.input_micros
            + cached * cached_micros
            + (usage.output_tokens or 0) * self.output_micros
        )
        return -(-product // MILLION) + self.request_micros


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """A price and whose it is."""

    price: Price
    managed_by: ManagedBy


@dataclass(frozen=True, slots=True)
class PriceTable:
    """The prices in force, by the host's model id. `revision` is of the workspace's own; 0: it has none."""

    version: str = ""
    prices: Mapping[str, ListedPrice] = field(default_factory=dict)
    revision: int = 0

    def cost(self, model_id: str, usage: Usage) -> Cost | None:
        """What a call cost; `None` where the price or the usage is not known."""
        listed = self.prices.get(model_id)
        micros = listed.price.cost(usage) if listed is not None else None
        if listed is None or micros is None:
            return None
        return Cost(micros, listed.price.currency, self.version)

    def over(self, own: Mapping[str, Price], revision: int) -> PriceTable:
        """With a workspace's own prices, which stand over these."""
        if not revision:
            return self
        more = {model_id: ListedPrice(price, ManagedBy.API) for model_id, price in own.items()}
        return PriceTable(f"{revision}.{self.version}", {**self.prices, **more}, revision)


NO_PRICES = PriceTable()


def host_table(config: Mapping[str, Price], built_in: Mapping[str, Price], built_in_version: str) -> PriceTable:
    """The table of the host: the configuration's prices over the built-in ones."""
    prices = {name: ListedPrice(price, ManagedBy.HOST) for name, price in built_in.items()}
    prices |= {name: ListedPrice(price, ManagedBy.CONFIG) for name, price in config.items()}
    digest = hashlib.sha256(to_json(dict(config)).encode()).hexdigest()[:8] if config else "0"
    return PriceTable(f"{digest}.{built_in_version}", prices)
