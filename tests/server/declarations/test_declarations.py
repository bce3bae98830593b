"""Agents and bindings of the configuration file, and what the host makes at its first start."""

from pathlib import Path

import pytest
import yaml

from portway.rpc.configuration import ConfigurationError
from portway.rpc.errors import Conflict
from portway.v1 import agent_pb2, binding_pb2
from tests.asking import ask
from tests.fakes.runtime_server import RUNNER, FakeRuntime
from tests.server.hosting import Hosted, hosted


def written(folder: Path, **sections: object) -> Path:
    path = folder / "portway.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def an_agent(agent_id: str = "helper", **more: object) -> dict[str, object]:
    return {"agent_id": agent_id, "runner_id": RUNNER, **more}


async def agents(host: Hosted) -> dict[str, agent_pb2.Agent]:
    return {one.agent_id: one for one in (await ask(host.channel, agent_pb2.ListAgentsRequest())).agents}


async def bindings(host: Hosted) -> dict[str, binding_pb2.Binding]:
    return {one.binding_id: one for one in (await ask(host.channel, binding_pb2.ListBindingsRequest())).bindings}


async def test_the_first_start_makes_an_agent_for_everybody_and_later_ones_leave_it_alone(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    async with hosted(tmp_path, schema_runtime) as host:
        (assistant,) = (await agents(host)).values()
        assert (assistant.agent_id, assistant.managed_by) == ("assistant", binding_pb2.MANAGED_BY_HOST)
        assert list(assistant.box_policy.tools) == ["*"]
        (default,) = (await bindings(host)).values()
        assert (default.binding_id, default.scope) == ("default", binding_pb2.BINDING_SCOPE_GLOBAL)
        await ask(host.channel, binding_pb2.DeleteBindingRequest(binding_id="default"))
        await ask(host.channel, agent_pb2.DeleteAgentRequest(agent_id="assistant"))
    async with hosted(tmp_path, schema_runtime) as host:
        assert await agents(host) == {}
        assert await bindings(host) == {}


async def test_what_is_declared_is_there_read_only_and_the_demo_is_not(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    file = written(
        tmp_path,
        agents=[
            an_agent(timeout=20, queue_policy="steer", config={"rounds": 2}, box_policy={"network": {"mode": "off"}})
        ],
        bindings=[{"binding_id": "all", "agent_id": "helper", "filters": {"prefix": "!"}}],
    )
    async with hosted(tmp_path, schema_runtime, file=file) as host:
        (helper,) = (await agents(host)).values()
        assert (helper.name, helper.managed_by) == ("helper", binding_pb2.MANAGED_BY_CONFIG)
        assert (helper.timeout.seconds, helper.queue_policy) == (20, agent_pb2.QUEUE_POLICY_STEER)
        assert helper.config["rounds"] == 2
        (binding,) = (await bindings(host)).values()
        assert (binding.binding_id, binding.scope) == ("all", binding_pb2.BINDING_SCOPE_WORKSPACE)
        assert binding.managed_by == binding_pb2.MANAGED_BY_CONFIG
        assert (await host.asked("!hi")).agent_id == "helper"


async def test_the_same_file_again_changes_nothing_and_another_is_followed(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    file = written(tmp_path, agents=[an_agent(), an_agent("second")], bindings=[])
    for _ in range(2):
        async with hosted(tmp_path, schema_runtime, file=file) as host:
            assert {one.revision for one in (await agents(host)).values()} == {1}
    file = written(tmp_path, agents=[an_agent(description="changed")])
    async with hosted(tmp_path, schema_runtime, file=file) as host:
        (helper,) = (await agents(host)).values()
        assert (helper.revision, helper.description) == (2, "changed")


async def test_an_agent_that_the_file_forgets_stays_while_bindings_of_the_api_name_it(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    file = written(tmp_path, agents=[an_agent()])
    async with hosted(tmp_path, schema_runtime, file=file) as host:
        request = binding_pb2.CreateBindingRequest(binding=binding_pb2.Binding(agent_id="helper"))
        await ask(host.channel, request)
    async with hosted(tmp_path, schema_runtime, file=written(tmp_path)) as host:
        assert (await agents(host))["helper"].managed_by == binding_pb2.MANAGED_BY_API
        assert (await host.asked("hi")).agent_id == "helper"


async def test_a_secret_of_a_declared_agent_is_kept_apart_and_reaches_its_run(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    file = written(tmp_path, agents=[an_agent(config={"api_key": "sk-declared"})])
    for _ in range(2):
        async with hosted(tmp_path, schema_runtime, file=file) as host:
            assert (await agents(host))["helper"].config["api_key"] == "********"
            await host.asked("hi", agent_id="helper")
            assert dict(schema_runtime.runs[-1].context.config)["api_key"] == "sk-declared"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"agents": [an_agent(descripton="x")]}, ["agents[0]", "descripton", "did you mean `description`"]),
        ({"agents": [an_agent(queue_policy="wait")]}, ["agents[0].queue_policy", "queue, steer"]),
        ({"agents": [an_agent(event_types="message.received")]}, ["agents[0].event_types", "must be a list"]),
        ({"agents": [an_agent(resource_policy={"model_ids": ["gpt-99"]})]}, ["agents[0].resource_policy", "gpt-99"]),
        ({"agents": [an_agent(guards={"window": 5, "denied_inbound_patterns": ["("]})]}, ["denied_inbound_patterns"]),
        ({"agents": [{"runner_id": RUNNER}]}, ["agents[0].agent_id", "is missing"]),
        ({"agents": [an_agent(), an_agent()]}, ["helper", "twice"]),
        ({"agents": {"helper": {}}}, ["`agents` must be a list"]),
        ({"agents": ["helper"]}, ["agents[0]", "keys and values"]),
        ({"agents": [an_agent(timeout="soon")]}, ["agents[0]"]),
        ({"agents": [an_agent(box_policy={"tools": ["format"]})]}, ["agents[0].box_policy.tools[0]", "format"]),
        ({"bindings": [{"agent_id": "assistant"}]}, ["bindings[0].binding_id", "is missing"]),
        ({"bindings": [{"binding_id": "b", "agent_id": "a", "scope": "bot"}]}, ["bindings[0].scope_id"]),
    ],
)
async def test_a_mistake_in_the_file_is_named_with_its_place(
    tmp_path: Path, schema_runtime: FakeRuntime, sections: dict[str, object], said: list[str]
) -> None:
    file = written(tmp_path, **sections)
    with pytest.raises(ConfigurationError) as mistake:
        async with hosted(tmp_path, schema_runtime, file=file):
            raise AssertionError("the host started")
    assert all(part in str(mistake.value) for part in (str(file), *said))


async def test_declared_bindings_that_are_equal_stop_the_start(tmp_path: Path, schema_runtime: FakeRuntime) -> None:
    twice = [{"binding_id": name, "agent_id": "helper"} for name in ("one", "two")]
    file = written(tmp_path, agents=[an_agent()], bindings=twice)
    with pytest.raises(Conflict, match="one"):
        async with hosted(tmp_path, schema_runtime, file=file):
            raise AssertionError("the host started")
