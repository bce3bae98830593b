"""Which tool belongs to whom, and what happens when it cannot be used."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, Reason, WrongState
from portway.server.effects.types import Idempotency
from portway.server.tools.native_specs import NAMES, SPECS, chosen
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.types import (
    Availability,
    PartialText,
    ToolCall,
    ToolEvent,
    ToolResult,
    ToolScope,
    ToolSpec,
    ToolType,
)
from portway.server.tools.wire import event_to_wire, resource_to_wire, tool_to_wire
from portway.v1 import tool_pb2

SCOPE = ToolScope("default", "run_1")


def spec(name: str, idempotency: Idempotency = Idempotency.READ_ONLY) -> ToolSpec:
    return ToolSpec(name, ToolType.PLUGIN, f"Does {name}.", {"type": "object", "properties": {}}, idempotency)


@dataclass
class Source:
    """Answers every call with its own name."""

    source_id: str
    tools: tuple[ToolSpec, ...]
    state: Availability = field(default_factory=lambda: Availability(True))

    def specs(self) -> tuple[ToolSpec, ...]:
        return self.tools

    def availability(self) -> Availability:
        return self.state

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        yield PartialText("half")
        yield ToolResult(f"{self.source_id} did {call.name} for {scope.run_id}")

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        return ToolResult(f"{self.source_id} did {call.effect_id} before", replayed=True)


async def events_of(registry: ToolRegistry, name: str) -> list[ToolEvent]:
    async with aclosing(registry.call(SCOPE, ToolCall(name, {}, "eff_1"))) as events:
        return [event async for event in events]


async def test_a_call_goes_to_the_source_of_the_tool() -> None:
    registry = ToolRegistry([Source("one", (spec("a"),)), Source("two", (spec("b"),))])
    assert await events_of(registry, "b") == [PartialText("half"), ToolResult("two did b for run_1")]
    assert (await registry.reconcile(SCOPE, ToolCall("a", {}, "eff_1"))).text == "one did eff_1 before"


def test_a_clash_of_names_is_refused_and_names_both_sources() -> None:
    registry = ToolRegistry([Source("one", (spec("a"),))])
    with pytest.raises(Conflict, match=r"'a' of 'two'.*tool of 'one'"):
        registry.register(Source("two", (spec("b"), spec("a"))))
    assert [tool.spec.name for tool in registry.tools()] == ["a"]
    with pytest.raises(Conflict, match="'c' of 'three'"):
        registry.register(Source("three", (spec("c"), spec("c"))))
    with pytest.raises(Conflict, match="registered already"):
        registry.register(Source("one", ()))


def test_a_source_can_be_taken_away_and_its_names_are_free_again() -> None:
    registry = ToolRegistry([Source("one", (spec("a"),))])
    registry.remove("one")
    registry.remove("one")
    with pytest.raises(NotFound):
        registry.get("a")
    registry.register(Source("two", (spec("a"),)))
    assert registry.get("a").source_id == "two"


async def test_an_unknown_tool_is_refused_with_near_names() -> None:
    with pytest.raises(NotFound, match=r"did you mean search\?"):
        await events_of(ToolRegistry([Source("one", (spec("search"),))]), "serch")


async def test_an_unavailable_tool_is_listed_with_its_reason_and_cannot_be_called() -> None:
    registry = ToolRegistry([Source("one", (spec("a"),), Availability(False, "the box is away"))])
    [tool] = registry.tools()
    assert tool.availability == Availability(False, "the box is away")
    with pytest.raises(WrongState, match="the box is away") as caught:
        await events_of(registry, "a")
    assert caught.value.reason == Reason.TOOL_UNAVAILABLE


def test_a_policy_offers_named_tools_all_of_them_or_none() -> None:
    assert chosen([]) == ()
    assert chosen(["*"]) == NAMES == ("exec", "read", "write", "edit", "glob", "grep")
    assert chosen(["grep", "read"]) == ("read", "grep")
    assert chosen(["*"], read_only=True) == ("exec", "read", "glob", "grep")
    with pytest.raises(InvalidInput) as caught:
        chosen(["read", "shell"])
    assert caught.value.fields[0].field == "box_policy.tools[1]"


def test_what_may_not_be_done_twice_needs_the_ledger() -> None:
    assert {one.name for one in SPECS if one.needs_ledger} == {"exec", "edit"}


def test_tools_are_described_in_the_contract() -> None:
    by_name = {one.name: one for one in SPECS}
    resource = resource_to_wire(by_name["exec"])
    assert (resource.name, resource.type) == ("exec", "native")
    assert resource.parameters["required"] == ["command"]
    registry = ToolRegistry([Source("one", (by_name["exec"],), Availability(False, "away"))])
    tool = tool_to_wire(registry.get("exec"))
    assert (tool.available, tool.reason, tool.source) == (False, "away", "one")
    assert tool.idempotency == tool_pb2.IDEMPOTENCY_CLASS_NOT_IDEMPOTENT
    event = event_to_wire(ToolResult("exit code 0", {"exit_code": 0}, replayed=True))
    assert (event.result.text, event.result.data["exit_code"], event.result.replayed) == ("exit code 0", 0, True)
