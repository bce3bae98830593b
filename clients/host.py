"""The host as a client sees it."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from portway.clients.artifacts import Artifacts
from portway.clients.run_view import Change, RunView
from portway.clients.runs import Runs
from portway.rpc.channel import ClientTls, open_channel
from portway.rpc.status import errors_by_meaning
from portway.v1 import (
    adapter_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    artifact_pb2_grpc,
    audit_pb2_grpc,
    binding_pb2_grpc,
    content_pb2,
    conversation_pb2,
    conversation_pb2_grpc,
    delivery_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    listener_pb2_grpc,
    model_pb2_grpc,
    operations_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    schedule_pb2_grpc,
    skill_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
    token_pb2_grpc,
    tool_pb2_grpc,
    transcript_pb2,
    workspace_pb2_grpc,
)

_MAX_LAUNCHER = 256
CALL_SECONDS = 30.0
"""How long a plain call may take. Watching a run has no limit of its own: the run has one."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is on disk. `run_id` is empty where no agent answers it."""

    event_id: str
    run_id: str
    conversation_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The end: the run, and the message or notice as it stands in the transcript. None where nothing was said."""

    run: run_pb2.Run
    reply: transcript_pb2.TranscriptItem | None


class Portway:
    """A connection to one host. Use it as `async with Portway("127.0.0.1:7700", token=…) as host`.

    Calls raise `portway.rpc.errors` by meaning: `NotFound`, `InvalidInput`, `Unavailable` and so on. The raw stubs are
    there for what has no wrapper: `host.events`, `host.bindings`, `host.deliveries`, `host.models`, `host.schedules`,
    `host.skills`, `host.tools`, `host.tokens`, `host.adapters`, `host.operations`, `host.workspaces`, `host.listeners`,
    `host.audit`.
    """

    def __init__(self, address: str, *, token: str, tls: ClientTls | None = None) -> None:
        self._channel = open_channel(address, token=token, tls=tls)
        self.conversations = conversation_pb2_grpc.ConversationServiceStub(self._channel)
        self.events = event_pb2_grpc.EventServiceStub(self._channel)
        self.agents = agent_pb2_grpc.AgentServiceStub(self._channel)
        self.bindings = binding_pb2_grpc.BindingServiceStub(self._channel)
        self.deliveries = delivery_pb2_grpc.DeliveryServiceStub(self._channel)
        self.models = model_pb2_grpc.ModelServiceStub(self._channel)
        self.schedules = schedule_pb2_grpc.ScheduleServiceStub(self._channel)
        self.skills = skill_pb2_grpc.SkillServiceStub(self._channel)
        self.tools = tool_pb2_grpc.ToolServiceStub(self._channel)
        self.tokens = token_pb2_grpc.TokenServiceStub(self._channel)
        self.workspaces = workspace_pb2_grpc.WorkspaceServiceStub(self._channel)
        self.listeners = listener_pb2_grpc.ListenerServiceStub(self._channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self._channel)
        self.operations = operations_pb2_grpc.OperationsServiceStub(self._channel)
        self.adapters = adapter_pb2_grpc.AdapterServiceStub(self._channel)
        self.status_stub = status_pb2_grpc.StatusServiceStub(self._channel)
        self.runs = Runs(run_pb2_grpc.RunServiceStub(self._channel))
        self.artifacts = Artifacts(artifact_pb2_grpc.ArtifactServiceStub(self._channel))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def send(
        self,
        text: str,
        *,
        conversation_id: str = "",
        agent_id: str = "",
        idempotency_key: str = "",
        parts: tuple[content_pb2.ContentPart, ...] = (),
    ) -> Accepted:
        """Hand a message over without waiting for its answer.

        With a key of your own the same message can be sent again without harm; otherwise one is made for this call.
        """
        key = idempotency_key or uuid.uuid4().hex
        address = event_pb2.EventAddress(
            conversation_id=conversation_id,
            surface="api",
            launcher_type="api",
            # Without a conversation the key makes one: sent again, it is the same message.
            launcher_id=conversation_id or f"key-{key}"[:_MAX_LAUNCHER],
        )
        said = [content_pb2.ContentPart(text=content_pb2.TextPart(text=text)), *parts] if text else list(parts)
        request = event_pb2.SubmitEventRequest(
            event=event_pb2.Event(type="message.received", source="api", address=address, parts=said),
            idempotency_key=key,
            agent_id=agent_id,
        )
        with errors_by_meaning():
            answer = await self.events.SubmitEvent(request, timeout=CALL_SECONDS)
        return Accepted(answer.event_id, answer.run_id, answer.conversation_id, answer.duplicate)

    async def chat(
        self, text: str, *, conversation_id: str = "", agent_id: str = "", idempotency_key: str = ""
    ) -> AsyncIterator[Accepted | Change | Finished]:
        """Say something and get the answer while it is written: `Accepted`, changes, `Finished`.

        A stream that breaks is taken up again where it was, without gap or repeat.
        """
        accepted = await self.send(
            text, conversation_id=conversation_id, agent_id=agent_id, idempotency_key=idempotency_key
        )
        yield accepted
        if not accepted.run_id:
            return
        view = RunView()
        async for event in self.runs.watch(accepted.run_id):
            for change in view.apply(event):
                yield change
        run = await self.runs.get(accepted.run_id)
        yield Finished(run, await self._reply(run))

    async def history(
        self, conversation_id: str, *, before: str = "", after: str = "", limit: int = 50
    ) -> conversation_pb2.ListMessagesResponse:
        """A page of a conversation in order of time: the last one, or the one before or after a cursor."""
        request = conversation_pb2.ListMessagesRequest(
            conversation_id=conversation_id, before=before, after=after, page_size=limit
        )
        with errors_by_meaning():
            return await self.conversations.ListMessages(request, timeout=CALL_SECONDS)

    async def list_agents(self) -> list[agent_pb2.Agent]:
        """All agents of the workspace, at most 1,000."""
        found: list[agent_pb2.Agent] = []
        page_token = ""
        with errors_by_meaning():
            while len(found) < 1000:
                page = await self.agents.ListAgents(
                    agent_pb2.ListAgentsRequest(page_size=200, page_token=page_token), timeout=CALL_SECONDS
                )
                found += page.agents
                page_token = page.next_page_token
                if not page_token:
                    break
        return found

    async def status(self) -> status_pb2.GetStatusResponse:
        """How the installation is, part by part."""
        with errors_by_meaning():
            return await self.status_stub.GetStatus(status_pb2.GetStatusRequest(), timeout=CALL_SECONDS)

    async def _reply(self, run: run_pb2.Run) -> transcript_pb2.TranscriptItem | None:
        """The last thing that the run said; it is among the newest of its conversation."""
        page = await self.history(run.conversation_id, limit=100)
        said = [item for item in page.items if item.run_id == run.run_id and item.role != content_pb2.MESSAGE_ROLE_USER]
        return said[-1] if said else None
