"""Every method that changes something leaves a row in the audit, or says why not: made from the contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from portway.rpc.channel import open_channel
from portway.rpc.identity import Role
from portway.server.audit.actions import ACTIONS
from portway.v1 import (
    agent_pb2,
    audit_pb2,
    binding_pb2,
    conversation_pb2,
    delivery_pb2,
    model_pb2,
    operations_pb2,
    run_pb2,
    schedule_pb2,
    skill_pb2,
    token_pb2,
    tool_pb2,
    workspace_pb2,
)
from tests.asking import ask
from tests.probing import contract, roles_of
from tests.server.authorization.others import Others, other_workspace
from tests.server.authorization.test_callers import ELSEWHERE
from tests.server.authorization.test_ids import LATER
from tests.server.authorization.world import World, whole_world
from tests.waiting import until_told

pytestmark = pytest.mark.asyncio(loop_scope="module")

READS = ("Get", "List", "Watch", "Read", "Search", "Explain")
# Written by the noun itself, in the transaction of the change.
BY_THE_NOUN = {
    **{f"AgentService/{verb}Agent": f"agent.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"BindingService/{verb}Binding": f"binding.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"ScheduleService/{verb}Schedule": f"schedule.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"ModelService/{verb}Model": f"model.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{
        f"ModelService/{verb}ModelProvider": f"model_provider.{verb.lower()}" for verb in ("Create", "Update", "Delete")
    },
    **{f"ToolService/{verb}McpServer": f"mcp_server.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"WorkspaceService/{verb}User": f"user.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"WorkspaceService/{verb}Workspace": f"workspace.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"SkillService/{verb}Skill": f"skill.{verb.lower()}" for verb in ("Create", "Update", "Delete")},
    **{f"ListenerService/{verb}Listener": f"listener.{verb.lower()}" for verb in ("Enable", "Disable")},
    **{f"TokenService/{verb}Token": f"token.{verb.lower()}" for verb in ("Create", "Revoke", "Rotate")},
    "TokenService/IssueBoxToken": "token.issue_for_box",
    "ScheduleService/TriggerSchedule": "schedule.trigger",
    "ModelService/SetPrices": "model_prices.set",
    "ArtifactService/DeleteArtifact": "artifact.delete",
    "RunService/DecideApproval": "approval.decide",
    "OperationsService/RotateEncryptionKey": "encryption.rotate",
    "WorkspaceService/EraseData": "data.erase",
    "WorkspaceService/SetKillSwitch": "switch.on",
    "SkillService/WriteSkillFile": "skill.write",
    "SkillService/InstallSkillZip": "skill.install",
    "SkillService/ActivateSkill": "skill.activate",
}
# What is said to an agent is kept as an event, a run and an item of a transcript, each with who said it.
KEPT_AS_SAID = {
    "EventService/SubmitEvent",
    "ConversationService/SendMessage",
    "RunService/SteerRun",
    "RunService/SubmitInteraction",
    "ArtifactService/CreateArtifact",
}
CHANGE_NOTHING = {"EventService/SimulateEvent", "SkillService/PreviewSkillZip"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("audited")
    async with whole_world(folder) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def others(world: World) -> Others:
    return await other_workspace(world)


async def test_every_method_of_operators_that_changes_something_is_in_the_audit_or_says_why_not() -> None:
    changing = {
        f"{method.containing_service.name}/{method.name}"
        for method in contract()
        if method.containing_service.name not in ELSEWHERE | LATER
        and not method.name.startswith(READS)
        and roles_of(method) & {Role.OPERATOR, Role.ADMIN}
        and Role.RUNNER not in roles_of(method)
        and method.name != "Connect"
    }
    known = [set(ACTIONS), set(BY_THE_NOUN), KEPT_AS_SAID, CHANGE_NOTHING]
    assert set.union(*known) == changing
    assert sum(map(len, known)) == len(changing)


async def actions_of(world: World, token: str) -> dict[str, audit_pb2.AuditEntry]:
    async with open_channel(world.host.address, token=token) as channel:
        page = await ask(channel, audit_pb2.ListAuditEntriesRequest(page_size=200))
    return {entry.action: entry for entry in page.audit_entries if entry.allowed}


async def test_what_operators_set_up_and_take_away_is_written(world: World, others: Others) -> None:
    found, real = await actions_of(world, others.token), others.real
    made = {action for action in BY_THE_NOUN.values() if action.endswith(".create")} - {"workspace.create"}
    assert set(found) >= made
    async with open_channel(world.host.address, token=others.token) as channel:
        await ask(channel, token_pb2.RotateTokenRequest(token_id=real["token"]))
        await ask(channel, token_pb2.RevokeTokenRequest(token_id=real["token"]))
        await ask(channel, schedule_pb2.TriggerScheduleRequest(schedule_id=real["schedule"], request_id="r"))
        await ask(channel, schedule_pb2.DeleteScheduleRequest(schedule_id=real["schedule"]))
        await ask(channel, model_pb2.DeleteModelRequest(model_id=real["model"]))
        await ask(channel, model_pb2.DeleteModelProviderRequest(provider_id=real["provider"]))
        await ask(channel, tool_pb2.DeleteMcpServerRequest(server_id=real["server"]))
        await ask(channel, binding_pb2.DeleteBindingRequest(binding_id=real["binding"]))
        await ask(channel, skill_pb2.DeleteSkillRequest(name=real["skill"]))
        await ask(channel, workspace_pb2.DeleteUserRequest(user_id=real["user"]))
        agent = (await ask(channel, agent_pb2.GetAgentRequest(agent_id=real["agent"]))).agent
        await ask(channel, agent_pb2.UpdateAgentRequest(agent=agent))
    found = await actions_of(world, others.token)
    gone = {action for action in BY_THE_NOUN.values() if action.endswith(".delete")}
    assert set(found) >= gone - {"workspace.delete", "agent.delete", "artifact.delete"}
    assert set(found) >= {"token.rotate", "token.revoke", "schedule.trigger", "agent.update"}


async def test_what_leaves_no_row_of_its_own_is_written_by_the_gate(world: World, others: Others) -> None:
    real, own = others.real, world.own
    async with open_channel(world.host.address, token=others.token) as channel:
        fork = conversation_pb2.ForkConversationRequest(
            conversation_id=real["conversation"], item_id=real["item"], request_id="f"
        )
        await ask(channel, fork)
        await ask(channel, run_pb2.CancelRunRequest(run_id=real["run"]))
        await ask(channel, conversation_pb2.ResetConversationRequest(conversation_id=real["conversation"]))
        await ask(channel, delivery_pb2.DiscardDeliveryRequest(delivery_id=real["delivery"]))
    expected = {
        "run.cancel": real["run"],
        "conversation.fork": real["conversation"],
        "conversation.reset": real["conversation"],
        "delivery.discard": real["delivery"],
    }

    async def written() -> bool:
        return set(await actions_of(world, others.token)) >= set(expected)

    await until_told(written)
    found = await actions_of(world, others.token)
    assert {action: found[action].resource for action in expected} == expected
    assert all(found[action].actor and found[action].peer for action in expected)
    ours = await actions_of(world, world.roles[Role.OPERATOR])
    assert "run.cancel" not in ours and own["run"] != real["run"]
    await ask(world.host.channel, operations_pb2.ApplyRetentionRequest(dry_run=True))
    await ask(world.host.channel, operations_pb2.DeletePluginDataRequest(plugin_id="some/plugin"))

    async def applied() -> bool:
        ours = await actions_of(world, world.roles[Role.OPERATOR])
        return {"retention.apply", "plugin_data.delete"} <= set(ours)

    await until_told(applied)
