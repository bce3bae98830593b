"""AgentService over the wire, with a runner that has a configuration."""

import json
from typing import Any

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, NotPermitted, Reason, Stale, Unavailable, WrongState
from portway.server.agents.config_secrets import MASK
from portway.server.agents.store import change_agent
from portway.server.agents.types import AgentSpec, ManagedBy
from portway.v1 import agent_pb2, audit_pb2, binding_pb2, session_pb2
from tests.asking import ask
from tests.fakes.runtime_server import RUNNER, FakeRuntime
from tests.server.callers import calling_as
from tests.server.hosting import WORKSPACE, Hosted


def an_agent(name: str = "helper", config: dict[str, Any] | None = None, **more: Any) -> agent_pb2.Agent:
    agent = agent_pb2.Agent(**{"name": name, "runner_id": RUNNER, **more})
    agent.config.update(config or {})
    return agent


async def create(served: Hosted, agent: agent_pb2.Agent, request_id: str = "") -> agent_pb2.Agent:
    answer = await ask(served.channel, agent_pb2.CreateAgentRequest(agent=agent, request_id=request_id))
    made: agent_pb2.Agent = answer.agent
    return made


async def test_an_agent_is_made_read_changed_listed_and_removed(served: Hosted) -> None:
    made = await create(served, an_agent(config={"rounds": 3}, description="helps"))
    assert made.agent_id.startswith("agt_")
    assert (made.revision, made.managed_by) == (1, binding_pb2.MANAGED_BY_API)
    assert (made.timeout.seconds, list(made.event_types)) == (300, ["message.received"])
    made.description = "helps more"
    changed = (await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=made))).agent
    assert (changed.revision, changed.description, changed.config["rounds"]) == (2, "helps more", 3)
    got = (await ask(served.channel, agent_pb2.GetAgentRequest(agent_id=made.agent_id))).agent
    assert got == changed
    page = await ask(served.channel, agent_pb2.ListAgentsRequest())
    assert [agent.name for agent in page.agents] == ["assistant", "helper"]
    await ask(served.channel, agent_pb2.DeleteAgentRequest(agent_id=made.agent_id))
    with pytest.raises(NotFound):
        await ask(served.channel, agent_pb2.GetAgentRequest(agent_id=made.agent_id))
    audit = await ask(served.channel, audit_pb2.ListAuditEntriesRequest(action="agent.*"))
    assert [entry.action for entry in audit.audit_entries] == ["agent.delete", "agent.update", "agent.create"]


async def test_every_policy_comes_back_as_it_was_given(served: Hosted) -> None:
    agent = an_agent(
        agent_id="full",
        event_types=["message.received", "reaction.added"],
        queue_policy=agent_pb2.QUEUE_POLICY_STEER,
        edit_policy=agent_pb2.EDIT_POLICY_SUPERSEDE,
        locale="de",
        time_zone="UTC",
        disabled=True,
    )
    agent.timeout.FromMilliseconds(12_500)
    agent.conversation_idle.FromSeconds(60)
    agent.resource_policy.model_ids.append("demo")
    agent.resource_policy.storage_plugin = False
    agent.resource_policy.denied_tools.append("exec")
    agent.delivery_policy.reply_disabled = True
    agent.delivery_policy.delivery_ttl.FromSeconds(30)
    agent.box_policy.tools.append("exec")
    agent.box_policy.network.mode = session_pb2.NETWORK_MODE_ALLOW_LIST
    agent.box_policy.network.allow.append("example.org:443")
    agent.box_policy.session_template = "{sender_id}"
    agent.guards.denied_sender_ids.append("eve")
    agent.guards.messages_per_window = 5
    agent.guards.denied_inbound_patterns.append("(?i)spam")
    agent.notices.failed["de"] = "Das ging nicht."
    agent.run_budget.tokens = 1000
    agent.run_budget.time.FromSeconds(9)
    agent.retry_policy.max_attempts = 3
    made = await create(served, agent)
    made.ClearField("managed_by")
    for name in ("revision", "create_time", "update_time"):
        made.ClearField(name)
    for field, value in agent.ListFields():
        given, got = value, getattr(made, field.name)
        if field.message_type is not None and not field.is_repeated:
            for inner, inner_value in given.ListFields():
                assert getattr(got, inner.name) == inner_value, f"{field.name}.{inner.name}"
        else:
            assert got == given, field.name


async def test_what_does_not_fit_the_runners_schema_is_refused_field_by_field(served: Hosted) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await create(
            served,
            an_agent(
                config={
                    "rounds": "three",
                    "promt": "typo",
                    "mood": "wild",
                    "prompt": [{"role": "wizard"}],
                    "model": {"primary": 1, "fallback": []},
                }
            ),
        )
    said = {one.field: one.description for one in refusal.value.fields}
    assert said["agent.config.rounds"] == "must be a number"
    assert "did you mean 'prompt'" in said["agent.config.promt"]
    assert "calm" in said["agent.config.mood"]
    assert "wizard" not in said["agent.config.prompt[0]"]
    assert {"agent.config.model.primary", "agent.config.model.fallback"} <= said.keys()


async def test_what_is_wrong_with_the_policies_is_named_too(served: Hosted) -> None:
    agent = an_agent(name=" ", time_zone="Mars/Olympus")
    agent.resource_policy.model_ids.append("gpt-99")
    agent.guards.denied_inbound_patterns.append("(?=x)")
    agent.box_policy.tools.append("format_disk")
    agent.box_policy.session_template = "everybody"
    agent.timeout.FromSeconds(-1)
    agent.config.update({"model": "no-such-model"})
    with pytest.raises(InvalidInput) as refusal:
        await create(served, agent)
    assert {one.field for one in refusal.value.fields} == {
        "agent.name",
        "agent.time_zone",
        "agent.resource_policy.model_ids[0]",
        "agent.guards.denied_inbound_patterns[0]",
        "agent.box_policy.tools[0]",
        "agent.box_policy.session_template",
        "agent.timeout",
        "agent.config",
    }


async def test_a_runner_that_is_not_there_is_named_with_those_that_are(served: Hosted) -> None:
    with pytest.raises(NotFound, match="plugin:tests/fake/runner"):
        await create(served, an_agent(runner_id="plugin:tests/fake/other"))
    with pytest.raises(InvalidInput):
        await create(served, an_agent(runner_id="echo"))


async def test_without_a_runtime_nothing_can_be_checked_and_nothing_is_saved(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    served.parts.runtime.state = type(served.parts.runtime.state)(False, "", "it was stopped")
    with pytest.raises(Unavailable):
        await create(served, an_agent())


async def test_a_secret_is_masked_kept_encrypted_and_given_to_runs_alone(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    made = await create(served, an_agent(agent_id="keeper", config={"api_key": "sk-very-secret-1"}))
    assert made.config["api_key"] == MASK
    rows = await served.parts.stores.database.reader.run(
        lambda tx: tx.all("SELECT spec FROM agents WHERE agent_id = 'keeper' LIMIT 1")
    )
    assert "very-secret" not in rows[0][0]
    made.description = "the mask leaves the secret as it was"
    await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=made))
    run = await served.asked("hi", agent_id="keeper")
    assert schema_runtime.runs[-1].context.run_id == run.run_id
    assert dict(schema_runtime.runs[-1].context.config)["api_key"] == "sk-very-secret-1"
    made.config["api_key"] = "sk-second"
    made.revision = 0
    await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=made))
    agent = await served.parts.agents.get(WORKSPACE, "keeper")
    config = json.loads(await served.parts.agent_secrets.reveal(WORKSPACE, agent.spec.config_json))
    assert config["api_key"] == "sk-second"


async def test_nobody_reaches_a_secret_by_naming_its_place(served: Hosted) -> None:
    await create(served, an_agent(agent_id="keeper", config={"api_key": "sk-very-secret-1"}))
    with pytest.raises(InvalidInput):
        await create(served, an_agent(name="thief", config={"prompt": {"$secret": "agent/keeper/api_key"}}))
    with pytest.raises(InvalidInput):
        await create(served, an_agent(name="thief", config={"api_key": MASK}))


async def test_removing_an_agent_or_its_secret_removes_what_was_encrypted(served: Hosted) -> None:
    async def secrets() -> int:
        rows = await served.parts.stores.database.reader.run(lambda tx: tx.all("SELECT COUNT(*) FROM secrets LIMIT 1"))
        return int(rows[0][0])

    made = await create(served, an_agent(config={"api_key": "sk-1"}))
    assert await secrets() == 1
    made.config.Clear()
    await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=made))
    assert await secrets() == 0
    other = await create(served, an_agent(name="other", config={"api_key": "sk-2"}))
    await ask(served.channel, agent_pb2.DeleteAgentRequest(agent_id=other.agent_id))
    assert await secrets() == 0


async def test_two_who_change_the_same_revision_do_not_overwrite_each_other(served: Hosted) -> None:
    made = await create(served, an_agent())
    await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=made))
    with pytest.raises(Stale):
        await ask(served.channel, agent_pb2.UpdateAgentRequest(agent=made))


async def test_a_taken_name_is_refused_and_the_same_request_answers_with_the_first(served: Hosted) -> None:
    first = await create(served, an_agent(), request_id="r1")
    assert await create(served, an_agent(), request_id="r1") == first
    with pytest.raises(Conflict):
        await create(served, an_agent(description="another"), request_id="r1")
    with pytest.raises(Conflict):
        await create(served, an_agent())


async def test_an_agent_that_bindings_name_cannot_be_removed(served: Hosted) -> None:
    made = await create(served, an_agent())
    await served.bind(made.agent_id)
    with pytest.raises(WrongState) as refusal:
        await ask(served.channel, agent_pb2.DeleteAgentRequest(agent_id=made.agent_id))
    assert refusal.value.reason == Reason.IN_USE


async def test_what_the_file_declares_is_read_only(served: Hosted) -> None:
    made = await create(served, an_agent())
    spec = AgentSpec(name="helper", runner_id=RUNNER)
    await served.parts.stores.database.writer.run(
        lambda tx: change_agent(tx, WORKSPACE, made.agent_id, spec, managed_by=ManagedBy.CONFIG)
    )
    made.revision = 0
    for request in (
        agent_pb2.UpdateAgentRequest(agent=made),
        agent_pb2.DeleteAgentRequest(agent_id=made.agent_id),
    ):
        with pytest.raises(WrongState) as refusal:
            await ask(served.channel, request)
        assert refusal.value.reason == Reason.MANAGED_BY_CONFIG


async def test_members_may_look_and_not_change(served: Hosted) -> None:
    async with calling_as(served, "member") as member:
        page = await ask(member, agent_pb2.ListAgentsRequest(page_size=1))
        assert [agent.name for agent in page.agents] == ["assistant"]
        with pytest.raises(NotPermitted):
            await ask(member, agent_pb2.CreateAgentRequest(agent=an_agent()))
