"""Which fields of requests name what, and requests that lack nothing but the id in question."""

# By method and path, by the whole path, or by the last part of the path.
KINDS = {
    "agent_id": "agent",
    "artifact_id": "artifact",
    "file_id": "artifact",
    "binding_id": "binding",
    "conversation_id": "conversation",
    "item_id": "item",
    "delivery_id": "delivery",
    "event_id": "event",
    "run_id": "run",
    "provider_id": "provider",
    "model_id": "model",
    "fallback_model_ids": "model",
    "server_id": "server",
    "schedule_id": "schedule",
    "token_id": "token",
    "user_id": "user",
    "workspace_id": "workspace",
    "approval_id": "approval",
    "interaction_id": "interaction",
    "session_id": "session",
    "EventService.ExplainMessage:id": "event",
    "ToolService.GetTool:name": "tool",
    "RunnerService.GetTool:name": "tool",
    "RunnerService.CallTool:name": "tool",
    "name": "skill",
    "skill.name": "skill",
}

NO_ID = {
    # The caller's own names for its requests and calls.
    *("request_id", "call_id", "mcp_server.command"),
    # Names of the platform, or of a runner, or of what a filter compares with and nothing more.
    *("agent.runner_id", "binding.scope_id", "target_id", "answer.action_id", "answer.actor_id", "actor_ids"),
    # What is chosen for something new: each workspace has names of its own.
    *("AgentService.CreateAgent:agent.agent_id", "BindingService.CreateBinding:binding.binding_id"),
    *("ModelService.CreateModelProvider:model_provider.provider_id", "ModelService.CreateModel:model.model_id"),
    *("ScheduleService.CreateSchedule:schedule.schedule_id", "SkillService.CreateSkill:skill.name"),
    *("ToolService.CreateMcpServer:mcp_server.server_id", "WorkspaceService.CreateUser:user.user_id"),
    "WorkspaceService.CreateWorkspace:workspace.workspace_id",
    # Written by the host; what a request says there is not read.
    *("schedule.last_event_id", "schedule.last_run_id", "event.event_id", "event.workspace_id"),
    "RunnerService.CreateArtifact:artifact.artifact_id",
    "RunnerService.CreateArtifact:artifact.name",
    # A run asks under a name of its own.
    "RunnerService.RequestInteraction:interaction.interaction_id",
    # The host answers for the sandbox of the run alone, whatever these say.
    *("start_process.session_id", "start_process.workspace_id", "start_process.process_id"),
    *("stop_process.session_id", "stop_process.workspace_id", "stop_process.process_id"),
    # An administrator's, who sees every workspace.
    *("WorkspaceService.UpdateWorkspace:workspace.workspace_id", "WorkspaceService.DeleteWorkspace:workspace_id"),
    *("OperationsService.ApplyRetention:workspace_id", "OperationsService.DeletePluginData:plugin_id"),
    # A plugin brings it for every workspace; whether it is enabled is each one's own.
    "listener_id",
    # Not served yet.
    "knowledge_base_ids",
}

DEEPER: dict[str, tuple[str, ...]] = {
    "ConversationService.SendMessage": ("parts.file.artifact.artifact_id",),
    "EventService.SubmitEvent": ("event.parts.file.artifact.artifact_id", "event.interaction.run_id"),
    "EventService.SimulateEvent": ("event.parts.file.artifact.artifact_id",),
    "RunService.SteerRun": ("parts.file.artifact.artifact_id",),
}

_EVENT = """event { type: "message.received" actor { type: "user" id: "p" }
  address { surface: "api" launcher_type: "person" launcher_id: "ids" } parts { text { text: "hi" } } }"""
_ANSWER = """event { type: "interaction.submitted" actor { type: "user" id: "p" }
  address { surface: "api" launcher_type: "person" launcher_id: "ids" } interaction { interaction_id: "q1" } }"""
_DRAFT = 'agent { agent_id: "assistant" name: "A" runner_id: "plugin:tests/fake/runner" revision: 1 }'
_SAID = 'parts { text { text: "hi" } }'
_MODEL = 'request { model_id: "demo" messages { role: MESSAGE_ROLE_USER parts { text { text: "hi" } } } }'

# By method, or by method and field. `$run`, `$conversation` and `$item` are our own, `$key` is a new one each time.
REQUESTS = {
    "AgentService.UpdateAgent": _DRAFT,
    "BindingService.CreateBinding": 'binding { scope: BINDING_SCOPE_BOT scope_id: "b" }',
    "BindingService.UpdateBinding": 'binding { scope: BINDING_SCOPE_BOT scope_id: "b" agent_id: "assistant" }',
    "ConversationService.ForkConversation": 'conversation_id: "$conversation" item_id: "$item" request_id: "$key"',
    "ConversationService.SendMessage": f'{_SAID} idempotency_key: "$key"',
    "ConversationService.SearchMessages": 'query: "theirs"',
    "EventService.SubmitEvent": f'{_EVENT} idempotency_key: "$key"',
    "EventService.SubmitEvent:event.interaction.run_id": f'{_ANSWER} idempotency_key: "$key"',
    "EventService.SimulateEvent": _EVENT,
    "RunService.SteerRun": f'run_id: "$run" {_SAID} request_id: "$key"',
    "RunService.SubmitInteraction": 'answer { run_id: "$run" interaction_id: "q1" } request_id: "$key"',
    "RunService.DecideApproval": 'approve: true digest: "00"',
    "RunnerService.InvokeModel": _MODEL,
    "RunnerService.StreamModel": _MODEL,
    "RunnerService.CountTokens": _MODEL,
    "RunnerService.RerankDocuments": 'query: "q" documents: "d"',
    "RunnerService.EmbedTexts": 'texts: "t"',
    "ModelService.UpdateModelProvider": 'model_provider { kind: "openai" }',
    "ModelService.CreateModel": 'model { model_id: "mine" name: "m" type: MODEL_TYPE_LLM }',
    "ModelService.UpdateModel": 'model { model_id: "mine" name: "m" type: MODEL_TYPE_LLM }',
    "ScheduleService.CreateSchedule": 'schedule { name: "S" cron: "0 0 1 1 *" agent_id: "assistant" }',
    "ScheduleService.UpdateSchedule": 'schedule { name: "S" cron: "0 0 1 1 *" agent_id: "assistant" }',
    "ScheduleService.TriggerSchedule": 'request_id: "$key"',
    "SkillService.UpdateSkill": 'skill { description: "D." instructions: "Do it." }',
    "SkillService.ReadSkillFile": 'path: "SKILL.md"',
    "SkillService.WriteSkillFile": 'path: "a.txt"',
    "SkillService.ActivateSkill": 'conversation_id: "$conversation" active: true',
    "SkillService.ActivateSkill:conversation_id": 'name: "ours" active: true',
    "TokenService.CreateToken": 'name: "t" role: ROLE_MEMBER',
    "ToolService.UpdateMcpServer": 'mcp_server { transport: MCP_TRANSPORT_STREAMABLE_HTTP url: "https://example.com" }',
    "WorkspaceService.UpdateUser": 'user { name: "N" role: ROLE_MEMBER }',
}

_NOTHING = ("OK", "")
_SILENCE = ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
_NOT_GRANTED = ("PERMISSION_DENIED", "NOT_GRANTED")

# Where the answer is another one than NOT_FOUND: an empty page of what a filter names, or an earlier refusal.
TOLD: dict[str, tuple[str, str]] = {
    "AuditService.ListAuditEntries": _NOTHING,
    "AuditService.WatchAudit": _SILENCE,
    "BindingService.ListBindings": _NOTHING,
    "DeliveryService.ListDeliveries": _NOTHING,
    "DeliveryService.WatchDeliveries": _NOTHING,
    "EventService.ListEvents": _NOTHING,
    "EventService.WatchEvents": _SILENCE,
    "EventService.SimulateEvent": _NOTHING,
    "ModelService.ListModels": _NOTHING,
    "RunService.ListRuns": _NOTHING,
    "RunService.ListInteractions": _NOTHING,
    "RunService.ListApprovals": _NOTHING,
    # This run was given no tools and no files.
    "RunnerService.GetTool": _NOT_GRANTED,
    "RunnerService.CallTool": _NOT_GRANTED,
    "RunnerService.GetFile": _NOT_GRANTED,
    "RunnerService.ReadFile": _NOT_GRANTED,
    "SpendingService.ListSpending": _NOTHING,
    "TokenService.CreateToken:workspace_id": _NOT_GRANTED,
    "TokenService.IssueBoxToken:workspace_id": _NOT_GRANTED,
}
