"""One attempt at one run: what it needs, put together before it starts."""

from dataclasses import dataclass

from portway.server.agents.types import AgentSpec
from portway.server.events.facts import EventFacts
from portway.server.runs.pending import QueuedRun
from portway.server.snapshot.freeze import Snapshot
from portway.v1 import event_pb2, run_context_pb2


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is kept with the run by its first attempt, serialized."""

    snapshot: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a run answers, also one that could not be prepared. `spec` is missing where its agent is gone."""

    run: QueuedRun
    event: event_pb2.Event
    facts: EventFacts
    spec: AgentSpec | None

    @property
    def workspace_id(self) -> str:
        return self.run.fence.workspace_id

    @property
    def run_id(self) -> str:
        return self.run.fence.run_id

    @property
    def replies(self) -> bool:
        """Whether its messages go out by an adapter."""
        return self.facts.delivers and not (self.spec is not None and self.spec.delivery_policy.reply_disabled)


@dataclass(frozen=True, slots=True)
class Assignment:
    """`frozen` is set for the first attempt only. `deadline` in microseconds."""

    addressee: Addressee
    attempt: int
    snapshot: Snapshot
    context: run_context_pb2.RunContext
    frozen: Frozen | None
    deadline: int

    @property
    def run(self) -> QueuedRun:
        return self.addressee.run
