"""Tools of plugins through a real runtime: what the plugin does, and what is left when it or its runtime is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from portway.rpc.errors import NotFound, PortwayError, Reason, WrongState
from portway.server.effects.types import Idempotency
from portway.server.runtimes.address import Address
from portway.server.runtimes.link import RuntimeLink
from portway.server.tools.plugin_watch import PluginToolWatch
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.types import PartialText, ToolCall, ToolEvent, ToolProgress, ToolResult, ToolScope
from tests.server.tools.real_runtime import RealRuntime, running_runtime
from tests.waiting import until

SCOPE = ToolScope("default", "run_1")
CODE = """
import asyncio
import os
from pathlib import Path

from portway.rpc.errors import Reason, WrongState
from portway.runtime.sdk import Tool

HERE = Path(__file__).parent


class Count(Tool):
    async def call(self, arguments, call):
        with (HERE / "count").open("a") as file:
            file.write(call.effect_id + "\\n")
        await call.progress("half", 0.5)
        await call.output("partly ")
        if arguments.get("crash"):
            os._exit(9)
        if arguments.get("wait"):
            try:
                await asyncio.Event().wait()
            finally:
                (HERE / "cancelled").touch()
        return f"counted {arguments.get('n', 0)}"

    async def reconcile(self, arguments, call):
        if call.effect_id in (HERE / "count").read_text().split():
            return "it was counted"
        raise WrongState("never seen", reason=Reason.EFFECT_UNKNOWN)
"""
MANIFEST = """
author: tests
name: counting
version: 1.0.0
label: Counting
"""
TOOL = """
kind: Tool
name: NAME
description: Counts.
class: counting:Count
idempotency: reconcilable
parameters: {type: object, properties: {n: {type: integer}}}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins" / "counting"
    (folder / "components").mkdir(parents=True)
    (folder / "manifest.yaml").write_text(MANIFEST)
    (folder / "counting.py").write_text(CODE)
    (folder / "components" / "count.yaml").write_text(TOOL.replace("NAME", "count"))
    return folder


@pytest.fixture
def runtime(tmp_path: Path, plugin: Path) -> Iterator[RealRuntime]:
    with running_runtime(tmp_path, plugin.parent) as running:
        yield running


class Desk:
    def __init__(self, link: RuntimeLink, registry: ToolRegistry) -> None:
        self.link = link
        self.registry = registry

    def knows(self, name: str) -> bool:
        return any(one.spec.name == name for one in self.registry.tools("default"))

    async def events(self, effect_id: str, **arguments: object) -> list[ToolEvent]:
        call = ToolCall("plugin:tests/counting/count", arguments, effect_id, 20.0)
        async with aclosing(self.registry.call(SCOPE, call)) as events:
            return [event async for event in events]


@pytest.fixture
async def desk(runtime: RealRuntime) -> AsyncIterator[Desk]:
    link = RuntimeLink(Address(runtime.address), lambda: runtime.token, 1)
    registry = ToolRegistry()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(link.serve()), group.create_task(PluginToolWatch(link, registry).serve())]
        found = Desk(link, registry)
        await until(lambda: found.knows("plugin:tests/counting/count"))
        yield found
        for task in tasks:
            task.cancel()


async def test_a_tool_is_found_described_and_called_with_its_progress_and_output(desk: Desk, plugin: Path) -> None:
    tool = desk.registry.get("plugin:tests/counting/count")
    assert tool.source_id == "plugin:tests/counting" and tool.availability.available
    assert tool.spec.idempotency is Idempotency.RECONCILABLE
    assert tool.spec.input_schema["properties"] == {"n": {"type": "integer"}}
    events = await desk.events("eff_1", n=3)
    assert events == [ToolProgress("half", 0.5), PartialText("partly "), ToolResult("counted 3")]
    assert (plugin / "count").read_text() == "eff_1\n"


async def test_leaving_a_call_cancels_it_in_the_plugin(desk: Desk, plugin: Path) -> None:
    call = ToolCall("plugin:tests/counting/count", {"wait": True}, "eff_2", 20.0)
    async with aclosing(desk.registry.call(SCOPE, call)) as events:
        assert await anext(events) == ToolProgress("half", 0.5)
    await until((plugin / "cancelled").exists)


async def test_a_plugin_that_dies_in_a_call_is_asked_what_became_of_it(desk: Desk, plugin: Path) -> None:
    with pytest.raises(PortwayError) as caught:
        await desk.events("eff_3", crash=True)
    assert caught.value.reason == Reason.RUNNER_CRASHED
    call = ToolCall("plugin:tests/counting/count", {"crash": True}, "eff_3")
    await until(lambda: desk.link.state.connected)
    assert (await desk.registry.reconcile(SCOPE, call)).text == "it was counted"
    with pytest.raises(WrongState) as unknown:
        await desk.registry.reconcile(SCOPE, ToolCall(call.name, {}, "eff_never"))
    assert unknown.value.reason == Reason.EFFECT_UNKNOWN
    assert (plugin / "count").read_text() == "eff_3\n"


async def test_tools_come_and_go_with_their_manifests(desk: Desk, plugin: Path, runtime: RealRuntime) -> None:
    (plugin / "components" / "more.yaml").write_text(TOOL.replace("NAME", "more"))
    await runtime.reload()
    await until(lambda: desk.knows("plugin:tests/counting/more"))
    (plugin / "components" / "more.yaml").unlink()
    await runtime.reload()
    await until(lambda: not desk.knows("plugin:tests/counting/more"))
    with pytest.raises(NotFound):
        desk.registry.get("plugin:tests/counting/more")


async def test_without_its_runtime_a_tool_says_why_it_cannot_be_called(desk: Desk, runtime: RealRuntime) -> None:
    runtime.kill()
    await until(lambda: not desk.link.state.connected)
    tool = desk.registry.get("plugin:tests/counting/count")
    assert not tool.availability.available and "plugin runtime does not answer" in tool.availability.reason
    with pytest.raises(WrongState) as caught:
        await desk.events("eff_4")
    assert caught.value.reason == Reason.TOOL_UNAVAILABLE


async def test_a_tool_whose_schema_cannot_be_used_is_listed_with_the_reason(
    desk: Desk, plugin: Path, runtime: RealRuntime
) -> None:
    text = TOOL.replace("NAME", "odd").replace("{n: {type: integer}}", "{n: {$ref: 'https://example.org/n'}}")
    (plugin / "components" / "odd.yaml").write_text(text)
    await runtime.reload()
    await until(lambda: desk.knows("plugin:tests/counting/odd"))
    odd = desk.registry.get("plugin:tests/counting/odd")
    assert not odd.availability.available and "example.org" in odd.availability.reason
    with pytest.raises(WrongState, match="example.org"):
        async with aclosing(desk.registry.call(SCOPE, ToolCall(odd.spec.name, {}, "eff_9", 20.0))) as events:
            assert [event async for event in events] == []
    assert desk.registry.get("plugin:tests/counting/count").availability.available
