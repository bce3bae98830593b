"""What a host is made of. `app.py` builds it; `service_list.py` binds services to it."""

from dataclasses import dataclass, field

from portway.rpc.cursor import CursorCodec
from portway.server.adapters.connection import Connections
from portway.server.agents.config_secrets import ConfigSecrets
from portway.server.agents.directory import AgentDirectory
from portway.server.agents.store import StoredAgents
from portway.server.artifacts.store import StoredArtifacts
from portway.server.audit.recorder import AuditRecorder
from portway.server.bindings.directory import BindingDirectory
from portway.server.bindings.store import StoredBindings
from portway.server.components.desk import ComponentDesk
from portway.server.config import Config
from portway.server.conversations.store import StoredConversations
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.store import StoredDeliveries
from portway.server.effects.store import StoredEffects
from portway.server.erasure.keep import ErasureKeeper
from portway.server.events.accept import Acceptor
from portway.server.events.guards import Guards
from portway.server.events.routing import Router
from portway.server.events.store import StoredEventLog
from portway.server.http.listener import Application
from portway.server.interactions.answer import Answers
from portway.server.interactions.build import DecisionParts
from portway.server.listeners.build import ListenerParts
from portway.server.models.kept.directory import ModelDirectory
from portway.server.operations.build import Operations
from portway.server.runner_calls.operations import RunnerCalls
from portway.server.runs.cancel import Canceller
from portway.server.runs.close import Closer
from portway.server.runs.dispatch import Dispatcher
from portway.server.runs.execute import Means
from portway.server.runs.feed import Feeds
from portway.server.runs.live import LiveAttempts, RunTokens
from portway.server.runs.store import StoredRuns
from portway.server.runtimes.box import FollowedBox
from portway.server.runtimes.link import RuntimeLink
from portway.server.schedules.build import ScheduleParts
from portway.server.secrets.store import StoredSecrets
from portway.server.skills.build import SkillParts
from portway.server.snapshot.grants import GrantBook
from portway.server.spending.ledger import SpendingAccounts
from portway.server.state.store import StoredState
from portway.server.storage.store import StoredStorage
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import Keyring
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.box_tokens import BoxTokens
from portway.server.tokens.store import StoredTokens
from portway.server.tools.box_client import BoxClient
from portway.server.tools.box_link import BoxLink
from portway.server.tools.mcp.build import McpParts
from portway.server.tools.registry import ToolRegistry
from portway.server.transcript.store import StoredTranscript
from portway.server.workspaces.access import Access


@dataclass(frozen=True, slots=True)
class Stores:
    """What can be asked of the database, and where bytes and keys lie."""

    database: Database
    keyring: Keyring
    cursors: CursorCodec
    blobs: Blobs
    events: StoredEventLog
    conversations: StoredConversations
    transcript: StoredTranscript
    runs: StoredRuns
    deliveries: StoredDeliveries
    effects: StoredEffects
    artifacts: StoredArtifacts
    state: StoredState
    storage: StoredStorage
    agents: StoredAgents
    bindings: StoredBindings
    tokens: StoredTokens
    secrets: StoredSecrets


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that lives as long as the host."""

    config: Config
    operations: Operations
    version: str
    stores: Stores
    models: ModelDirectory
    tools: ToolRegistry
    skills: SkillParts
    mcp: McpParts
    runtime: RuntimeLink
    box: FollowedBox | None
    box_link: BoxLink | None
    box_client: BoxClient
    access: Access
    agents: AgentDirectory
    bindings: BindingDirectory
    agent_secrets: ConfigSecrets
    audit: AuditRecorder
    outbox: Outbox
    feeds: Feeds
    live: LiveAttempts
    run_tokens: RunTokens
    authenticator: TokenAuthenticator
    box_tokens: BoxTokens
    calls: RunnerCalls
    bridge: Application
    grants: GrantBook
    means: Means
    closer: Closer
    dispatcher: Dispatcher
    router: Router
    guards: Guards
    acceptor: Acceptor
    people: DecisionParts
    answers: Answers
    canceller: Canceller
    erasures: ErasureKeeper
    schedules: ScheduleParts
    desk: ComponentDesk
    listeners: ListenerParts
    spending: SpendingAccounts
    connections: Connections = field(default_factory=Connections)
