"""Operators go back, grant, disable and remove, over the wire."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import (
    NotFound,
    Reason,
    Unavailable,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.runtime.config import RuntimeConfig
from portway.v1 import runtime_pb2 as pb
from tests.runtime.conftest import LiveRuntime
from tests.runtime.folders import COMPONENT
from tests.runtime.installed.packs import (
    HANGS,
    RUNNER,
    asking,
    install,
    left_behind,
    packed,
    plugin,
    says,
)

START = pb.InstallPluginStart


async def test_going_back(runtime: LiveRuntime, tmp_path: Path) -> None:
    with pytest.raises(NotFound), errors_by_meaning():
        await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one"))
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        await install(runtime.operator, packed(tmp_path, version))
    request = pb.RollbackPluginRequest(plugin_id="test/one", request_id="back")
    answer = await runtime.operator.RollbackPlugin(request)
    assert (answer.replaced_version, answer.plugin.version) == ("3.0.0", "2.0.0")
    assert (await runtime.operator.RollbackPlugin(request)).plugin.version == "2.0.0", "one request goes back once"
    assert await says(runtime) == "2.0.0"
    await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one"))
    assert await says(runtime) == "1.0.0"
    with pytest.raises(WrongState), errors_by_meaning():
        await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one"))
    await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one", version="3.0.0"))
    assert await says(runtime) == "3.0.0"
    with pytest.raises(NotFound), errors_by_meaning():
        await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one", version="9"))


async def test_removing(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    await install(runtime.operator, packed(tmp_path, "1.0.0", more="limits: {memory_mb: 300}\n"))
    kept = config.data / "plugin-data" / "test" / "one"
    kept.mkdir(parents=True)
    request = pb.RemovePluginRequest(plugin_id="test/one", request_id="away")
    await runtime.operator.RemovePlugin(request)
    await runtime.operator.RemovePlugin(request)
    with pytest.raises(NotFound):
        await plugin(runtime.stub)
    async with runtime.host.run("", RUNNER) as run:
        assert isinstance(await run.failure(), NotFound)
    assert left_behind(config.data) == []
    assert kept.exists()
    await install(runtime.operator, packed(tmp_path, "1.0.0", more="limits: {memory_mb: 300}\n"))
    await runtime.operator.RemovePlugin(pb.RemovePluginRequest(plugin_id="test/one", delete_data=True))
    assert not kept.exists()
    with pytest.raises(NotFound), errors_by_meaning():
        await runtime.operator.RemovePlugin(pb.RemovePluginRequest(plugin_id="test/one"))


async def test_a_plugin_with_runs_is_removed_by_force_only(
    runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path
) -> None:
    await install(runtime.operator, packed(tmp_path, "1.0.0", code=HANGS))
    async with runtime.host.run("", RUNNER) as run:
        await run.until("message_delta")
        with pytest.raises(WrongState) as caught, errors_by_meaning():
            await runtime.operator.RemovePlugin(pb.RemovePluginRequest(plugin_id="test/one"))
        assert caught.value.reason == Reason.IN_USE
        await runtime.operator.RemovePlugin(pb.RemovePluginRequest(plugin_id="test/one", force=True))
        assert (await run.failure()).reason == Reason.RUNNER_CRASHED
    assert left_behind(config.data) == []


async def test_a_disabled_plugin_has_no_process_and_says_why(runtime: LiveRuntime, tmp_path: Path) -> None:
    await install(runtime.operator, packed(tmp_path, "1.0.0"))
    assert await says(runtime) == "1.0.0"
    watch: Any = runtime.stub.WatchRunners(pb.WatchRunnersRequest())
    assert (await watch.read()).HasField("snapshot")
    request = pb.DisablePluginRequest(plugin_id="test/one", reason="it talks too much")
    answer = await runtime.operator.DisablePlugin(request)
    assert (answer.plugin.state, answer.plugin.disabled) == (pb.PLUGIN_STATE_DISABLED, True)
    assert "it talks too much" in answer.plugin.reason
    async with runtime.host.run("", RUNNER) as run:
        failure = await run.failure()
    assert isinstance(failure, Unavailable)
    assert failure.reason == Reason.RUNNER_UNAVAILABLE
    assert "it talks too much" in failure.message
    runners = await runtime.stub.ListRunners(pb.ListRunnersRequest())
    assert RUNNER not in {one.id for one in runners.runners}
    async with asyncio.timeout(30):
        while not (event := await watch.read()).HasField("withheld"):
            pass
    assert event.withheld.runner_id == RUNNER
    watch.cancel()
    await install(runtime.operator, packed(tmp_path, "2.0.0"))
    assert (await plugin(runtime.stub)).state == pb.PLUGIN_STATE_DISABLED, "an upgrade does not enable it"
    await runtime.operator.EnablePlugin(pb.EnablePluginRequest(plugin_id="test/one"))
    assert await says(runtime) == "2.0.0"


async def test_a_builtin_plugin_can_be_disabled(runtime: LiveRuntime) -> None:
    for _ in range(2):
        answer = await runtime.operator.DisablePlugin(pb.DisablePluginRequest(plugin_id="portway/exec"))
        assert answer.plugin.state == pb.PLUGIN_STATE_DISABLED
    with pytest.raises(NotFound), errors_by_meaning():
        await runtime.operator.DisablePlugin(pb.DisablePluginRequest(plugin_id="portway/nothing"))


async def test_an_upgrade_that_asks_for_more_waits(runtime: LiveRuntime, tmp_path: Path) -> None:
    first = await install(runtime.operator, packed(tmp_path, "1.0.0", component=asking("invoke")))
    assert list(first.plugin.permissions) == ["models.invoke"]
    more = packed(tmp_path, "2.0.0", component=asking("invoke", "stream"))
    for _ in range(2):
        with pytest.raises(WrongState) as caught:
            await install(runtime.operator, more)
        assert caught.value.reason == Reason.PERMISSIONS_GROWN
        assert caught.value.facts["permissions"] == "models.stream"
    assert await says(runtime) == "1.0.0"
    waiting = next(one for one in (await plugin(runtime.stub)).versions if one.version == "2.0.0")
    assert waiting.state == pb.PLUGIN_VERSION_STATE_WAITING
    assert list(waiting.ungranted_permissions) == ["models.stream"]
    with pytest.raises(WrongState) as caught, errors_by_meaning():
        await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one", version="2.0.0"))
    assert caught.value.reason == Reason.PERMISSIONS_GROWN
    answer = await runtime.operator.GrantPlugin(pb.GrantPluginRequest(plugin_id="test/one"))
    assert (answer.replaced_version, answer.plugin.version) == ("1.0.0", "2.0.0")
    assert await says(runtime) == "2.0.0"
    with pytest.raises(NotFound), errors_by_meaning():
        await runtime.operator.GrantPlugin(pb.GrantPluginRequest(plugin_id="test/one"))
    least = packed(tmp_path, "3.0.0", component=asking("invoke", "rerank"))
    await install(runtime.operator, least, START(grant_permissions=True))
    assert await says(runtime) == "3.0.0"


async def test_a_configuration_that_changed_is_told(runtime: LiveRuntime, tmp_path: Path) -> None:
    def form(*fields: str) -> str:
        return COMPONENT.format(module="one") + "config_schema:\n" + "".join(f"- {{{one}}}\n" for one in fields)

    one = form("name: a, type: text, label: A", "name: b, type: number, label: B")
    two = form("name: b, type: text, label: B", "name: c, type: text, label: C, required: true")
    await install(runtime.operator, packed(tmp_path, "1.0.0", component=one))
    answer = await install(runtime.operator, packed(tmp_path, "2.0.0", component=two))
    told = {change.field: change.message for change in answer.config_changes}
    assert told.keys() == {"a", "b", "c"}
    assert {change.runner_id for change in answer.config_changes} == {RUNNER}
    assert "is gone" in told["a"]
    assert "was number, is text now" in told["b"]
    assert "new and required" in told["c"]
