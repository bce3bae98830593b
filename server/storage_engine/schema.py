"""The whole schema, composed from every noun's tables.

Imported by migrations and their tests only: the stores need no SQLAlchemy.
"""

from portway.server.adapters import tables as adapters
from portway.server.agents import tables as agents
from portway.server.approvals import tables as approvals
from portway.server.artifacts import tables as artifacts
from portway.server.audit import tables as audit
from portway.server.bindings import tables as bindings
from portway.server.conversations import tables as conversations
from portway.server.deliveries import tables as deliveries
from portway.server.effects import tables as effects
from portway.server.erasure import tables as erasure
from portway.server.events import tables as events
from portway.server.interactions import tables as interactions
from portway.server.listeners import tables as listeners
from portway.server.models.kept import tables as models
from portway.server.retention import tables as retention
from portway.server.runs import tables as runs
from portway.server.schedules import tables as schedules
from portway.server.secrets import tables as secrets
from portway.server.skills import tables as skills
from portway.server.spending import tables as spending
from portway.server.state import tables as state
from portway.server.storage import tables as storage
from portway.server.storage_engine import tables as engine
from portway.server.storage_engine.columns import metadata
from portway.server.switches import tables as switches
from portway.server.tokens import tables as tokens
from portway.server.tools.mcp import tables as mcp_servers
from portway.server.transcript import tables as transcript
from portway.server.users import tables as users
from portway.server.workspaces import tables as workspaces

NOUNS = (
    engine,
    workspaces,
    tokens,
    audit,
    events,
    conversations,
    transcript,
    runs,
    effects,
    approvals,
    interactions,
    deliveries,
    artifacts,
    state,
    storage,
    agents,
    bindings,
    secrets,
    adapters,
    mcp_servers,
    schedules,
    listeners,
    retention,
    spending,
    users,
    switches,
    erasure,
    models,
    skills,
)

__all__ = ["NOUNS", "metadata"]
