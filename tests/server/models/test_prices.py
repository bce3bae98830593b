"""What calls cost."""

from __future__ import annotations

import pytest

from portway.rpc.errors import InvalidInput
from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.server.models.prices.types import Price, PriceTable, host_table
from portway.server.models.types import Capability, Cost, ManagedBy, Usage


@pytest.mark.parametrize(
    ("price", "usage", "micros"),
    [
        (Price(3_000_000, 15_000_000), Usage(1_000_000, 1_000_000), 18_000_000),
        (Price(3_000_000, 15_000_000, 300_000), Usage(1_000_000, 0, 400_000), 1_920_000),
        # Without a price for the cache it costs the same, and more cached than given is a mistake of the vendor.
        (Price(3_000_000, 0), Usage(1_000_000, 0, 400_000), 3_000_000),
        (Price(3_000_000, 0, 300_000), Usage(1_000_000, 0, 9_000_000), 300_000),
        # Reasoning is a part of the output and is not paid twice.
        (Price(0, 10_000_000), Usage(10, 1_000_000, 0, 900_000), 10_000_000),
        # The smallest amount is not lost.
        (Price(150_000, 600_000), Usage(1, 1), 1),
        (Price(request_micros=2_000), Usage(None, None), 2_000),
        (Price(), Usage(5, 5), 0),
        (Price(20_000), Usage(1_000_000, None), 20_000),
    ],
)
def test_a_call_costs_what_its_tokens_cost(price: Price, usage: Usage, micros: int) -> None:
    assert price.cost(usage) == micros


@pytest.mark.parametrize("usage", [Usage(), Usage(10, None), Usage(None, 10)])
def test_a_call_whose_tokens_are_unknown_has_no_cost(usage: Usage) -> None:
    assert Price(1, 1).cost(usage) is None


def test_a_model_without_a_price_has_no_cost() -> None:
    table = PriceTable("v", {})
    assert table.cost("m", Usage(1, 1)) is None


def test_a_workspaces_prices_stand_over_the_configurations_and_these_over_the_built_in_ones() -> None:
    host = host_table({"b": Price(2)}, {"a": Price(1), "b": Price(1), "c": Price(1)}, "2026-01-01")
    table = host.over({"c": Price(3, currency="EUR")}, 7)
    found = {name: (one.price.input_micros, one.managed_by) for name, one in table.prices.items()}
    assert found == {"a": (1, ManagedBy.HOST), "b": (2, ManagedBy.CONFIG), "c": (3, ManagedBy.API)}
    assert table.version.startswith("7.")
    assert table.version.endswith(".2026-01-01")
    assert len(table.version) <= 64
    assert table.cost("c", Usage(1_000_000, 0)) == Cost(3, "EUR", table.version)


def test_built_in_prices_and_windows_are_those_of_the_vendors_own_service_alone() -> None:
    own = ProviderConfig(
        ProviderKind.OPENAI, (ModelConfig("a", "gpt-4o-mini-2024-07-18"), ModelConfig("u", "gpt-99")), api_key="k"
    )
    other = ProviderConfig(ProviderKind.OPENAI, (ModelConfig("b", "gpt-4o-mini"),), base_url="https://gateway.example")
    registry = build_registry(ModelsConfig(providers={"own": own, "other": other}), Surroundings({}))
    assert registry.prices.prices["a"].price == Price(150_000, 600_000, 75_000)
    assert set(registry.prices.prices) == {"a"}
    known, unknown, elsewhere = (registry.model(name) for name in ("a", "u", "b"))
    assert (known.context_window, known.max_output_tokens) == (128_000, 16_384)
    assert Capability.IMAGES in known.capabilities
    for one in (unknown, elsewhere):
        assert one.context_window is None
        assert one.capabilities == frozenset({Capability.TOOLS})


def test_wrong_prices_are_refused_with_their_paths() -> None:
    config = ModelsConfig(prices={"demo": Price(-1, currency="usd"), "nobody": Price(1)})
    with pytest.raises(InvalidInput) as refused:
        build_registry(config, Surroundings({}))
    assert [one.field for one in refused.value.fields] == [
        "models.prices.demo.currency",
        "models.prices.demo.input_micros",
        "models.prices.nobody",
    ]
