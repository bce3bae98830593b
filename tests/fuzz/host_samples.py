"""Good requests to the host, which the generator changes a little: what has many rules is seldom right by chance."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from portway.v1 import (
    adapter_pb2,
    agent_pb2,
    artifact_pb2,
    binding_pb2,
    conversation_pb2,
    event_pb2,
    model_pb2,
    run_model_pb2,
    run_pb2,
    run_pull_pb2,
    schedule_pb2,
    skill_pb2,
    tool_pb2,
    workspace_pb2,
)
from tests.fakes.runtime_server import RUNNER

_EVENT = {
    "type": "message.received",
    "address": {"surface": "api", "launcherType": "person", "launcherId": "ada"},
    "actor": {"type": "user", "id": "ada", "name": "Ada"},
    "parts": [{"text": {"text": "hello there"}}],
    "data": {"a": [1, {"b": None}]},
}
_EDIT = {**_EVENT, "type": "message.edited", "subject": {"type": "message", "id": "m1"}}
_RECALL = {**_EVENT, "type": "message.recalled", "subject": {"type": "message", "id": "m1"}, "parts": []}
_QUESTION = {
    "interactionId": "q1",
    "kind": "INTERACTION_KIND_FORM",
    "title": "Which?",
    "fields": [
        {"id": "size", "label": "Size", "type": "INTERACTION_FIELD_TYPE_NUMBER", "required": True},
        {"id": "name", "label": "Name", "type": "INTERACTION_FIELD_TYPE_TEXT"},
    ],
    "actions": [{"id": "go", "label": "Go"}],
    "fallbackText": "Say which",
}
_ASK = {"modelId": "demo", "messages": [{"role": "MESSAGE_ROLE_USER", "parts": [{"text": {"text": "hi"}}]}]}

_SAMPLES: tuple[tuple[type[Message], dict[str, Any]], ...] = (
    (event_pb2.SubmitEventRequest, {"event": _EVENT, "idempotencyKey": "k1", "agentId": "assistant"}),
    (event_pb2.SubmitEventRequest, {"event": _EVENT, "idempotencyKey": "k2", "agentId": "assistant"}),
    (event_pb2.SubmitEventRequest, {"event": _EDIT, "idempotencyKey": "k3", "agentId": "assistant"}),
    (event_pb2.SubmitEventRequest, {"event": _RECALL, "idempotencyKey": "k4", "agentId": "assistant"}),
    (event_pb2.SimulateEventRequest, {"event": _EVENT, "agentId": "assistant"}),
    (event_pb2.SimulateEventRequest, {"event": _EDIT}),
    (conversation_pb2.SendMessageRequest, {"text": "hello", "agentId": "assistant", "idempotencyKey": "s1"}),
    (
        agent_pb2.CreateAgentRequest,
        {
            "agent": {"agentId": "second", "name": "Second", "runnerId": RUNNER, "config": {"rounds": 3}},
            "requestId": "a1",
        },
    ),
    (agent_pb2.UpdateAgentRequest, {"agent": {"agentId": "second", "name": "Other", "runnerId": RUNNER}}),
    (
        binding_pb2.CreateBindingRequest,
        {
            "binding": {
                "scope": "BINDING_SCOPE_GLOBAL",
                "agentId": "second",
                "eventTypes": ["bot.invited"],
                "filters": {"prefix": "!", "pattern": "^a+$"},
            },
            "requestId": "b1",
        },
    ),
    (
        schedule_pb2.CreateScheduleRequest,
        {
            "schedule": {"name": "daily", "cron": "0 9 * * *", "timeZone": "Europe/Berlin", "agentId": "assistant"},
            "requestId": "c1",
        },
    ),
    (
        model_pb2.CreateModelProviderRequest,
        {
            "modelProvider": {"providerId": "p", "kind": "openai", "baseUrl": "https://api.example.com/v1"},
            "requestId": "p1",
        },
    ),
    (
        model_pb2.CreateModelRequest,
        {"model": {"modelId": "m", "providerId": "p", "name": "vendor", "type": "MODEL_TYPE_LLM"}, "requestId": "m1"},
    ),
    (
        tool_pb2.CreateMcpServerRequest,
        {
            "mcpServer": {
                "serverId": "tools",
                "transport": "MCP_TRANSPORT_STREAMABLE_HTTP",
                "url": "https://tools.example.com/mcp",
                "disabled": True,
            },
            "requestId": "t1",
        },
    ),
    (
        skill_pb2.CreateSkillRequest,
        {"skill": {"name": "cook", "description": "Cooks.", "instructions": "Cook it."}, "requestId": "k1"},
    ),
    (skill_pb2.ReadSkillFileRequest, {"name": "cook", "path": "SKILL.md"}),
    (skill_pb2.WriteSkillFileRequest, {"name": "cook", "path": "notes/a.md", "data": "aGVsbG8="}),
    (skill_pb2.ActivateSkillRequest, {"name": "cook", "conversationId": "chat", "active": True}),
    (
        workspace_pb2.CreateUserRequest,
        {"user": {"name": "Ada", "role": "ROLE_MEMBER", "actorIds": ["api:ada"]}, "requestId": "u1"},
    ),
    (workspace_pb2.CreateWorkspaceRequest, {"workspace": {"name": "Team", "workspaceId": "team"}, "requestId": "w1"}),
    (artifact_pb2.CreateArtifactRequest, {"start": {"name": "a.txt", "mimeType": "text/plain"}}),
    (artifact_pb2.CreateArtifactRequest, {"data": "aGVsbG8="}),
    (run_pull_pb2.SetStateRequest, {"scope": "STATE_SCOPE_CONVERSATION", "key": "k", "valueJson": '{"a": 1}'}),
    (run_pull_pb2.GetStateRequest, {"scope": "STATE_SCOPE_CONVERSATION", "key": "k"}),
    (run_pull_pb2.SetStorageRequest, {"key": {"area": "STORAGE_AREA_PLUGIN", "key": "k"}, "data": "aGVsbG8="}),
    (run_pull_pb2.GetStorageRequest, {"key": {"area": "STORAGE_AREA_PLUGIN", "key": "k"}}),
    (
        run_pull_pb2.RunnerServiceCreateArtifactRequest,
        {"artifact": {"name": "b.txt", "mimeType": "text/plain"}, "data": "aGk="},
    ),
    (run_model_pb2.InvokeModelRequest, {"request": _ASK}),
    (run_model_pb2.StreamModelRequest, {"request": _ASK}),
    (run_model_pb2.CountTokensRequest, {"request": _ASK}),
    (run_pull_pb2.RequestInteractionRequest, {"interaction": _QUESTION}),
    (
        run_pull_pb2.RequestActionRequest,
        {"requestId": "x1", "action": {"action": "react", "target": "m1", "payload": {"emoji": "+1"}}},
    ),
    (
        run_pull_pb2.RequestApprovalRequest,
        {"requestId": "a1", "subject": "Bash", "title": "Run ls?", "details": {"command": "ls"}},
    ),
    (run_pb2.SteerRunRequest, {"runId": "run_1", "parts": [{"text": {"text": "faster"}}], "requestId": "s1"}),
    (
        adapter_pb2.ConnectRequest,
        {
            "hello": {
                "adapterId": "web_chat",
                "platform": "web_chat",
                "protocolVersion": 1,
                "surfaces": [{"surface": "web_chat"}],
                "liveUpdates": True,
            }
        },
    ),
    (
        adapter_pb2.ConnectRequest,
        {"event": {"ref": "1", "submit": {"event": _EVENT, "idempotencyKey": "e1", "agentId": "assistant"}}},
    ),
)


def samples() -> Iterator[Message]:
    for kind, fields in _SAMPLES:
        yield ParseDict(fields, kind())
