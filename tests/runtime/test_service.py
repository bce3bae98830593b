"""What is there and how it is: lists, watches, reloads, logs, limits, tools."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import InvalidInput, NotFound, NotPermitted, Reason, Unavailable
from portway.rpc.identity import Role
from portway.rpc.status import error_from_rpc, errors_by_meaning
from portway.runtime.config import RuntimeConfig
from portway.v1 import runtime_pb2 as pb
from portway.v1 import runtime_pb2_grpc
from tests.runtime.conftest import LiveRuntime
from tests.runtime.folders import COMPONENT, write_plugin
from tests.runtime.host_end import BEHAVE, HostEnd
from tests.waiting import PATIENCE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def config(config: RuntimeConfig, folder: Path) -> RuntimeConfig:
    return replace(config, plugins=(*config.plugins, folder))


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def _plugin(runtime: LiveRuntime, plugin_id: str) -> pb.Plugin:
    with errors_by_meaning():
        return (await runtime.stub.GetPlugin(pb.GetPluginRequest(plugin_id=plugin_id))).plugin


async def _until_state(runtime: LiveRuntime, plugin_id: str, state: pb.PluginState.ValueType) -> pb.Plugin:
    async with asyncio.timeout(PATIENCE):
        while (plugin := await _plugin(runtime, plugin_id)).state != state:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    return plugin


async def test_runners_are_listed_in_pages(runtime: LiveRuntime) -> None:
    ids: list[str] = []
    token = ""
    while True:
        page = await runtime.stub.ListRunners(pb.ListRunnersRequest(page_size=1, page_token=token))
        ids += [runner.id for runner in page.runners]
        token = page.next_page_token
        if not token:
            break
    assert ids == sorted(ids)
    assert {BEHAVE, "plugin:test/neighbour/default", "plugin:portway/local-agent/default"} <= set(ids)


async def test_a_forged_page_token_is_refused(runtime: LiveRuntime) -> None:
    with pytest.raises(InvalidInput), errors_by_meaning():
        await runtime.stub.ListPlugins(pb.ListPluginsRequest(page_token="made-up"))


async def test_a_manifest_goes_over_the_wire_with_explicit_values(runtime: LiveRuntime) -> None:
    page = await runtime.stub.ListRunners(pb.ListRunnersRequest())
    manifest = next(runner for runner in page.runners if runner.id == "plugin:portway/local-agent/default")
    assert manifest.label.texts["zh-Hans"] == "本地智能体"
    assert manifest.capabilities.streaming
    assert manifest.permissions.models_stream
    assert not manifest.permissions.models_embed
    assert manifest.context_policy.supports_history_pull
    assert not manifest.context_policy.supports_history_search
    fields = {field.name: field for field in manifest.config_schema}
    assert fields["max_rounds"].default_value.number_value == 25


async def test_a_watch_begins_with_a_snapshot_and_tells_each_change(runtime: LiveRuntime, folder: Path) -> None:
    watch: Any = runtime.stub.WatchRunners(pb.WatchRunnersRequest())
    first = await watch.read()
    assert BEHAVE in {runner.id for runner in first.snapshot.runners}
    assert (await watch.read()).HasField("tools_changed")
    assert (await watch.read()).HasField("components_changed")

    plugin = write_plugin(folder)
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    assert (await watch.read()).added.id == "plugin:test/one/default"

    write_plugin(folder, version="1.1.0")
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    assert (await watch.read()).changed.plugin_version == "1.1.0"

    (plugin / "manifest.yaml").write_text("author: [")
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    assert (await watch.read()).removed_runner_id == "plugin:test/one/default"
    failed = (await watch.read()).failed
    assert "manifest.yaml" in failed.location
    watch.cancel()


async def test_a_changed_plugin_runs_its_new_code_and_a_removed_one_ends(runtime: LiveRuntime, folder: Path) -> None:
    plugin = write_plugin(folder, says="old")
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    assert (await runtime.host.finished("", "plugin:test/one/default")).message == "old"
    before = await _plugin(runtime, "test/one")

    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    assert (await _plugin(runtime, "test/one")).pid == before.pid, "nothing changed, so nothing is replaced"

    write_plugin(folder, says="something new")
    answer = await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest(plugin_ids=["test/one"]))
    assert [one.plugin_id for one in answer.plugins] == ["test/one"]
    assert (await runtime.host.finished("", "plugin:test/one/default")).message == "something new"

    (plugin / "manifest.yaml").unlink()
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    async with runtime.host.run("", "plugin:test/one/default") as run:
        assert isinstance(await run.failure(), NotFound)


async def test_a_reload_of_a_plugin_that_is_not_there_is_not_found(runtime: LiveRuntime) -> None:
    with pytest.raises(NotFound), errors_by_meaning():
        await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest(plugin_ids=["test/nothing"]))


async def test_a_broken_plugin_is_listed_with_its_reason_beside_the_good_ones(
    runtime: LiveRuntime, folder: Path
) -> None:
    write_plugin(folder, component=COMPONENT.format(module="one") + "permissions: {modles: [invoke]}\n")
    (folder / "nothing").mkdir()
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    page = await runtime.stub.ListPlugins(pb.ListPluginsRequest())
    plugins = {plugin.plugin_id: plugin for plugin in page.plugins}
    assert plugins["test/one"].state == pb.PLUGIN_STATE_BROKEN
    assert 'components/default.yaml: permissions.modles: is no permission (did you mean "models"?)' in (
        plugins["test/one"].reason
    )
    assert plugins["test/behave"].state == pb.PLUGIN_STATE_IDLE
    assert [problem.location for problem in page.problems] == ["manifest.yaml"]
    assert (await runtime.host.finished("ok fine")).message == "fine"


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import nothing_like_this\n", "nothing_like_this"),
        ("class Runner:\n    pass\n", "is no AgentRunner"),
        ("x = 1\n", "no class Runner"),
    ],
)
async def test_a_plugin_that_does_not_start_says_why(runtime: LiveRuntime, folder: Path, code: str, part: str) -> None:
    write_plugin(folder, code=code)
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    async with runtime.host.run("", "plugin:test/one/default") as run:
        failure = await run.failure()
    assert isinstance(failure, Unavailable)
    assert failure.reason == Reason.RUNNER_UNAVAILABLE
    assert part in failure.message
    assert failure.retry_after
    assert part in (await _plugin(runtime, "test/one")).reason


async def test_a_plugin_can_start_at_boot_and_stop_when_it_is_idle(runtime: LiveRuntime, folder: Path) -> None:
    write_plugin(folder, "early", more="start: boot\n")
    write_plugin(folder, "lazy", more="idle_stop: 50ms\n")
    await runtime.stub.ReloadPlugins(pb.ReloadPluginsRequest())
    assert (await _until_state(runtime, "test/early", pb.PLUGIN_STATE_RUNNING)).pid > 0
    assert (await runtime.host.finished("", "plugin:test/lazy/default")).message == "hello"
    idle = await _until_state(runtime, "test/lazy", pb.PLUGIN_STATE_IDLE)
    assert (idle.pid, idle.restart_count) == (0, 0)
    assert (await runtime.host.finished("", "plugin:test/lazy/default")).message == "hello"


async def test_what_a_plugin_prints_is_kept_with_its_run(runtime: LiveRuntime) -> None:
    await runtime.host.finished("prints one line")
    lines = {}
    async for line in runtime.operator.TailPluginLogs(pb.TailPluginLogsRequest(plugin_id="test/behave")):
        lines[line.stream] = line
        if len(lines) == 2:
            break
    assert (lines["stdout"].line, lines["stdout"].run_id) == ("one line", "run_1")
    assert (lines["stderr"].line, lines["stderr"].run_id) == ("to the error stream", "run_1")


async def test_a_plugin_that_prints_without_end_loses_lines_and_nothing_else(runtime: LiveRuntime) -> None:
    await runtime.host.finished("prints_much 20000")
    request = pb.TailPluginLogsRequest(plugin_id="test/behave", lines=2000, once=True)
    lines = [line async for line in runtime.operator.TailPluginLogs(request)]
    assert 0 < len(lines) <= 2000
    assert (await runtime.host.finished("ok fine")).message == "fine"


async def test_a_plugins_environment_holds_what_it_asked_for_and_was_granted(
    monkeypatch: pytest.MonkeyPatch, runtime: LiveRuntime
) -> None:
    monkeypatch.setenv("PW_TEST_GRANTED", "yes")
    monkeypatch.setenv("PW_TEST_NOT_GRANTED", "no")
    monkeypatch.setenv("PW_TEST_SECRET", "hidden")
    run = await runtime.host.finished("environment")
    environment = dict(line.split("=", 1) for line in run.message.splitlines())
    assert environment["PW_TEST_GRANTED"] == "yes"
    assert environment.keys() <= {
        *("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PW_TEST_GRANTED"),
        *("PORTWAY_PLUGIN", "PORTWAY_SOCKET", "PORTWAY_COOKIE_FILE", "PORTWAY_COMPONENTS"),
    }
    pid = (await _plugin(runtime, "test/behave")).pid
    assert "PW_TEST_" not in _proc(pid, "environ")
    warnings = [problem.location for problem in (await _plugin(runtime, "test/behave")).problems]
    assert warnings == ["manifest.yaml: environment.PW_TEST_NOT_GRANTED"]


async def test_a_plugin_that_takes_too_much_memory_fails_its_run_and_lives_on(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("memory 1000")
    assert run.error.code == "runner.error"
    assert "MemoryError" in run.error.message
    assert (await runtime.host.finished("memory 1")).message == str(1024 * 1024)


async def test_the_limits_of_a_plugin_are_those_of_its_manifest(runtime: LiveRuntime) -> None:
    await runtime.host.finished("ok")
    pid = (await _plugin(runtime, "test/behave")).pid
    limits = _proc(pid, "limits")
    assert "Max open files            256                  256" in limits
    status = await runtime.stub.GetRuntimeStatus(pb.GetRuntimeStatusRequest())
    # Where a group bounds what is used, a single process may reserve twice as much.
    share = 1 if any(one.startswith("memory") for one in status.unenforced_limits) else 2
    assert f"Max data size             {share * 268435456}            {share * 268435456}" in limits
    assert "Max core file size        0                    0" in limits
    assert "NoNewPrivs:\t1" in _proc(pid, "status")


async def test_tools_of_plugins_are_listed_and_called(runtime: LiveRuntime) -> None:
    tools = (await runtime.stub.ListTools(pb.RuntimeServiceListToolsRequest())).tools
    assert [(tool.name, tool.idempotency) for tool in tools] == [("test/behave/shout", "read_only")]
    assert tools[0].parameters["required"] == ["text"]
    events = [event async for event in runtime.stub.CallTool(_shout("hello"))]
    assert [event.WhichOneof("kind") for event in events] == ["partial_text", "result"]
    assert events[0].partial_text == "taking a breath"
    assert (events[1].result.text, events[1].result.is_error) == ("HELLO!", False)


async def test_a_tool_that_raises_has_failed_and_says_so_in_its_result(runtime: LiveRuntime) -> None:
    events = [event async for event in runtime.stub.CallTool(_shout(""))]
    assert events[-1].result.is_error
    assert "nothing to shout" in events[-1].result.text


async def test_an_unknown_tool_is_not_found(runtime: LiveRuntime) -> None:
    call = runtime.stub.CallTool(pb.RuntimeServiceCallToolRequest(name="test/behave/whisper"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(error_from_rpc(caught.value), NotFound)


async def test_a_viewer_may_look_and_not_run(runtime: LiveRuntime) -> None:
    async with open_channel(runtime.address, token=runtime.tokens[Role.VIEWER]) as channel:
        stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
        assert (await stub.ListRunners(pb.ListRunnersRequest())).runners
        async with HostEnd(channel).run("ok") as run:
            assert isinstance(await run.failure(), NotPermitted)


def _shout(text: str) -> pb.RuntimeServiceCallToolRequest:
    request = pb.RuntimeServiceCallToolRequest(name="test/behave/shout", effect_id="eff_1")
    request.arguments.update({"text": text})
    return request
