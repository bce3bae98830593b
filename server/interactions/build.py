"""Puts together what people decide."""

from dataclasses import dataclass
from typing import Protocol

from portway.server.actions.request import ActionCalls
from portway.server.approvals.decide import Decisions, Waiting
from portway.server.approvals.gate import ApprovalGate
from portway.server.approvals.request import ApprovalCalls
from portway.server.approvals.store import StoredApprovals
from portway.server.artifacts.store import Artifacts
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.store import Deliveries
from portway.server.events.accept import Budgets, EventQuotas
from portway.server.events.guards import Audit, Guards
from portway.server.events.routing import Agents
from portway.server.events.store import EventLog
from portway.server.interactions.answer import Answers
from portway.server.interactions.ask import InteractionCalls
from portway.server.interactions.expire import Expiry
from portway.server.interactions.store import StoredInteractions
from portway.server.runs.pending import Work
from portway.server.storage_engine.database import Database
from portway.server.transcript.store import Transcript


class AnswerStores(Protocol):
    """What is asked of the database."""

    @property
    def database(self) -> Database: ...
    @property
    def events(self) -> EventLog: ...
    @property
    def artifacts(self) -> Artifacts: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionParts:
    """Questions, approvals and platform actions of a host."""

    interactions: StoredInteractions
    approvals: StoredApprovals
    decisions: Decisions
    gate: ApprovalGate
    expiry: Expiry
    interaction_calls: InteractionCalls
    action_calls: ActionCalls
    approval_calls: ApprovalCalls


def build_decisions(
    database: Database, events: EventLog, deliveries: Deliveries, transcript: Transcript, outbox: Outbox, audit: Audit
) -> DecisionParts:
    """What runs ask through, and what decides."""
    interactions, approvals = StoredInteractions(database.reader), StoredApprovals(database.reader)
    waiting = Waiting()
    decisions = Decisions(database.writer, approvals, events, outbox, audit, waiting)
    gate = ApprovalGate(approvals, decisions, waiting)
    return DecisionParts(
        interactions=interactions,
        approvals=approvals,
        decisions=decisions,
        gate=gate,
        expiry=Expiry(database.writer, interactions, approvals, decisions, outbox),
        interaction_calls=InteractionCalls(),
        action_calls=ActionCalls(gate, deliveries, transcript),
        approval_calls=ApprovalCalls(gate),
    )


def build_answers(
    parts: DecisionParts,
    stores: AnswerStores,
    agents: Agents,
    guards: Guards,
    work: Work,
    outbox: Outbox,
    quotas: EventQuotas,
    budgets: Budgets,
) -> Answers:
    """The way in for answers."""
    return Answers(
        database=stores.database,
        events=stores.events,
        interactions=parts.interactions,
        artifacts=stores.artifacts,
        agents=agents,
        guards=guards,
        work=work,
        outbox=outbox,
        clicks=parts.decisions,
        quotas=quotas,
        budgets=budgets,
    )
