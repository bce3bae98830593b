"""The services of the host: every one of the contract, also those that this version does not serve yet."""

from collections.abc import Sequence

from google.protobuf.descriptor import ServiceDescriptor

from portway.rpc.binding import Service
from portway.server.adapters.connection import Connections
from portway.server.adapters.gateway import Gateway
from portway.server.adapters.servicer import AdapterServicer
from portway.server.adapters.store import StoredAdapters
from portway.server.agents.manage import AgentManager
from portway.server.agents.servicer import AgentServicer
from portway.server.artifacts.keeper import ArtifactKeeper
from portway.server.artifacts.servicer import ArtifactServicer
from portway.server.audit.servicer import AuditServicer
from portway.server.audit.store import StoredAudit
from portway.server.bindings.listing import BindingListing
from portway.server.bindings.manage import BindingManager
from portway.server.bindings.servicer import BindingServicer
from portway.server.conversations.change import ConversationKeeper
from portway.server.conversations.read import ConversationReader
from portway.server.conversations.send import Talk
from portway.server.conversations.servicer import ConversationServicer
from portway.server.deliveries.ledger import DeliveryLedger
from portway.server.deliveries.servicer import DeliveryServicer
from portway.server.events.amendments import Amendments
from portway.server.events.explain import MessageExplainer
from portway.server.events.servicer import EventServicer
from portway.server.events.simulate import Simulator
from portway.server.interactions.people import People
from portway.server.models.kept.manage import ModelManager
from portway.server.models.servicer import ModelServicer
from portway.server.ownership.build import build_owned
from portway.server.parts import Parts
from portway.server.runner_calls.servicer import RunnerServicer
from portway.server.runs.explain import RunExplainer
from portway.server.runs.servicer import RunServicer
from portway.server.runs.steer import Steering
from portway.server.schedules.build import schedule_servicer
from portway.server.skills.servicer import SkillServicer
from portway.server.spending.report import SpendingReport
from portway.server.spending.servicer import SpendingServicer
from portway.server.spending.store import StoredSpending
from portway.server.status.look import Lookout
from portway.server.status.servicer import StatusServicer
from portway.server.tokens.manage import TokenManager
from portway.server.tokens.servicer import TokenServicer
from portway.server.tools.servicer import ToolServicer
from portway.server.workspaces.build import workspace_servicer
from portway.v1 import (
    adapter_pb2,
    agent_pb2,
    artifact_pb2,
    audit_pb2,
    binding_pb2,
    channel_pb2,
    connector_pb2,
    conversation_pb2,
    delivery_pb2,
    direct_chat_pb2,
    event_pb2,
    knowledge_pb2,
    listener_pb2,
    model_pb2,
    node_pb2,
    run_pb2,
    runner_service_pb2,
    schedule_pb2,
    shell_pb2,
    skill_pb2,
    spending_pb2,
    status_pb2,
    task_pb2,
    token_pb2,
    tool_pb2,
    workspace_pb2,
)

_NOT_SERVED = (
    (channel_pb2, "ChannelService"),
    (connector_pb2, "ConnectorService"),
    (direct_chat_pb2, "DirectChatService"),
    (knowledge_pb2, "KnowledgeService"),
    (node_pb2, "NodeService"),
    (shell_pb2, "ShellService"),
    (task_pb2, "TaskService"),
)


def services_of(parts: Parts) -> list[Service]:
    """All of them; a method that its servicer lacks answers UNIMPLEMENTED."""
    connections, adapters = parts.connections, StoredAdapters(parts.stores.database.reader)
    services = [
        *_work(parts, connections),
        _adapters(parts, connections, adapters),
        *_configuration(parts),
        *(Service(_descriptor(module, name), None) for module, name in _NOT_SERVED),
    ]
    return [*services, _status(parts, connections, adapters, services)]


def _work(parts: Parts, connections: Connections) -> list[Service]:
    """Events, runs, what runs ask, and what leaves."""
    stores, cursors = parts.stores, parts.stores.cursors
    writer = stores.database.writer
    explainer = RunExplainer(
        stores.runs, stores.runs, stores.deliveries, stores.effects, parts.people.interactions, cursors
    )
    events = EventServicer(
        acceptor=parts.acceptor,
        events=stores.events,
        runs=stores.runs,
        cursors=cursors,
        simulator=Simulator(
            reader=stores.database.reader,
            conversations=stores.conversations,
            router=parts.router,
            guards=parts.guards,
            amendments=Amendments(stores.events, stores.runs, parts.agents),
            budgets=parts.spending,
            work=parts.dispatcher,
            runtime=parts.runtime,
            grants=parts.grants,
        ),
        explainer=MessageExplainer(stores.events, stores.transcript, stores.runs, stores.deliveries, explainer),
    )
    runs = RunServicer(
        runs=stores.runs,
        feeds=parts.feeds,
        cursors=cursors,
        canceller=parts.canceller,
        steering=Steering(writer, stores.runs, stores.runs, parts.dispatcher),
        explainer=explainer,
        owned=build_owned(parts, connections),
        people=People(
            parts.answers, parts.people.decisions, parts.people.interactions, parts.people.approvals, cursors
        ),
    )
    calls = RunnerServicer(parts.run_tokens, parts.means.operations)
    ledger = DeliveryLedger(stores.deliveries, parts.outbox)
    keeper = ArtifactKeeper(
        stores.database, stores.artifacts, stores.blobs, parts.access.quotas, parts.config.host.limits.artifact_bytes
    )
    return [
        Service(_descriptor(event_pb2, "EventService"), events),
        Service(_descriptor(run_pb2, "RunService"), runs),
        # Runs that are to end while the host stops still have to ask.
        Service(
            _descriptor(runner_service_pb2, "RunnerService"),
            calls,
            quiet_methods=_quiet(calls),
            while_draining=True,
        ),
        Service(
            _descriptor(delivery_pb2, "DeliveryService"),
            DeliveryServicer(ledger, parts.outbox, cursors, stores.database.epoch),
        ),
        Service(_descriptor(artifact_pb2, "ArtifactService"), ArtifactServicer(keeper)),
        _conversations(parts),
        Service(
            _descriptor(schedule_pb2, "ScheduleService"),
            schedule_servicer(parts.schedules, stores.database, cursors),
        ),
        Service(
            _descriptor(listener_pb2, "ListenerService"),
            parts.listeners.servicer(cursors),
        ),
    ]


def _conversations(parts: Parts) -> Service:
    stores = parts.stores
    servicer = ConversationServicer(
        talk=Talk(parts.acceptor, parts.feeds, stores.runs, stores.transcript),
        reader=ConversationReader(stores.conversations, stores.transcript, stores.runs),
        keeper=ConversationKeeper(stores.database.writer, stores.transcript),
        transcript=stores.transcript,
        cursors=stores.cursors,
    )
    return Service(_descriptor(conversation_pb2, "ConversationService"), servicer)


def _adapters(parts: Parts, connections: Connections, adapters: StoredAdapters) -> Service:
    stores = parts.stores
    gateway = Gateway(
        connections,
        adapters,
        acceptor=parts.acceptor,
        outbox=parts.outbox,
        signs=parts.means.signs,
        feeds=parts.feeds,
        runs=stores.runs,
        writer=stores.database.writer,
    )
    servicer = AdapterServicer(gateway, connections, adapters, stores.cursors, parts.version)
    return Service(_descriptor(adapter_pb2, "AdapterService"), servicer)


def _status(parts: Parts, connections: Connections, adapters: StoredAdapters, others: Sequence[Service]) -> Service:
    """How everything is; it knows which of the other services' methods are there."""
    host = parts.config.host
    lookout = Lookout(
        database=parts.stores.database,
        data=host.data,
        runs=parts.dispatcher,
        deliveries=parts.stores.deliveries,
        models=parts.models.host,
        runtime=parts.runtime,
        box=parts.box.status if parts.box is not None else None,
        adapters=adapters,
        connections=connections,
        agents=parts.stores.agents,
    )
    descriptor = _descriptor(status_pb2, "StatusService")
    served = {
        f"{service.descriptor.full_name}/{method.name}"
        for service in [*others, Service(descriptor, StatusServicer)]
        for method in service.descriptor.methods
        if hasattr(service.servicer, method.name)
    }
    servicer = StatusServicer(
        lookout,
        version=parts.version,
        name=host.name,
        epoch=parts.stores.database.epoch,
        data=str(host.data),
        served=served,
    )
    return Service(descriptor, servicer)


def _configuration(parts: Parts) -> list[Service]:
    """What operators set up and look at."""
    stores, cursors = parts.stores, parts.stores.cursors
    writer = stores.database.writer
    agents = AgentManager(writer, parts.agents, parts.bindings, parts.runtime, parts.models, parts.agent_secrets)
    bindings = BindingManager(writer, parts.bindings)
    listing = BindingListing(stores.bindings)
    tokens = TokenManager(writer, parts.authenticator)
    audit = AuditServicer(StoredAudit(stores.database.reader), cursors)
    return [
        Service(_descriptor(agent_pb2, "AgentService"), AgentServicer(agents, parts.agents, stores.agents, cursors)),
        Service(
            _descriptor(binding_pb2, "BindingService"),
            BindingServicer(bindings, parts.bindings, listing, stores.events, cursors),
        ),
        Service(
            _descriptor(skill_pb2, "SkillService"),
            SkillServicer(parts.skills.store, parts.skills.keeper, parts.skills.folder, stores.blobs, cursors),
        ),
        _models(parts),
        Service(
            _descriptor(tool_pb2, "ToolService"),
            ToolServicer(parts.tools, cursors, parts.mcp.servers, parts.mcp.manager, parts.mcp.fleet),
        ),
        Service(_descriptor(token_pb2, "TokenService"), _tokens(parts, tokens)),
        Service(_descriptor(workspace_pb2, "WorkspaceService"), workspace_servicer(parts)),
        Service(_descriptor(audit_pb2, "AuditService"), audit),
        Service(_descriptor(spending_pb2, "SpendingService"), _spending(parts)),
        parts.operations.service(),
    ]


def _tokens(parts: Parts, manager: TokenManager) -> TokenServicer:
    box = parts.box
    address = (lambda: box.address) if box is not None else (lambda: "")
    return TokenServicer(manager, parts.stores.tokens, parts.stores.cursors, parts.box_tokens, address)


def _spending(parts: Parts) -> SpendingServicer:
    stores = parts.stores
    report = SpendingReport(
        StoredSpending(stores.database.reader), stores.agents, stores.conversations, stores.runs, parts.spending
    )
    return SpendingServicer(report, stores.cursors)


def _models(parts: Parts) -> Service:
    stores = parts.stores
    manager = ModelManager(stores.database.writer, parts.models, stores.keyring, parts.config.outbound)
    return Service(_descriptor(model_pb2, "ModelService"), ModelServicer(parts.models, manager, stores.cursors))


def _descriptor(module: object, name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]  # type: ignore[attr-defined]
    return found


def _quiet(servicer: object) -> frozenset[str]:
    """A run makes thousands of calls: those that go well are not worth a line each."""
    return frozenset(name for name in dir(servicer) if name[0].isupper())
