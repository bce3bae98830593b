"""Putting an attempt together: event, agent, runner, snapshot, context, state."""

from dataclasses import replace

from portway.rpc.errors import NotFound
from portway.server.agents.config_secrets import ConfigSecrets
from portway.server.agents.types import AgentSpec
from portway.server.events.accept_unit import item_id_of
from portway.server.events.place import Places
from portway.server.events.routing import Agents
from portway.server.events.store import EventLog
from portway.server.events.wire import facts_of
from portway.server.runs.assignment import Addressee, Assignment, Frozen
from portway.server.runs.pending import QueuedRun
from portway.server.runs.store import Ledgers, Runs
from portway.server.runtimes.link import RuntimeLink
from portway.server.skills.store import Skills
from portway.server.skills.wire import offered_message
from portway.server.snapshot.context import ContextWriter, state_message
from portway.server.snapshot.context_parts import Place, struct_of
from portway.server.snapshot.freeze import Snapshot, freeze
from portway.server.snapshot.grants import GrantBook
from portway.server.snapshot.restore import restore
from portway.server.state.store import State
from portway.server.storage_engine.clock import SECOND, now
from portway.server.switches.directory import KillSwitches, stopped
from portway.server.switches.types import SwitchKind
from portway.server.transcript.store import Transcript
from portway.v1 import event_pb2, run_context_pb2

STATE_VALUES = 100


class Preparer:
    """Reads what an attempt needs. Nothing is written here."""

    def __init__(
        self,
        *,
        runs: Runs,
        events: EventLog,
        places: Places,
        transcript: Transcript,
        ledgers: Ledgers,
        state: State,
        skills: Skills,
        agents: Agents,
        secrets: ConfigSecrets,
        runtime: RuntimeLink,
        grants: GrantBook,
        contexts: ContextWriter,
        switches: KillSwitches,
        patience: float,
        gateway_url: str = "",
        bridge_url: str = "",
    ) -> None:
        self._runs = runs
        self._events = events
        self._places = places
        self._transcript = transcript
        self._ledgers = ledgers
        self._state = state
        self._skills = skills
        self._agents = agents
        self._secrets = secrets
        self._runtime = runtime
        self._grants = grants
        self._contexts = contexts
        self._switches = switches
        self._patience = patience
        self._gateway_url = gateway_url
        self._bridge_url = bridge_url

    async def address(self, run: QueuedRun) -> Addressee:
        """Whom the run answers. Raises NotFound where its event is gone."""
        workspace_id = run.fence.workspace_id
        if not run.event_id:
            # Taken over after a start, when only what orders the queue is read.
            row = await self._runs.run(workspace_id, run.fence.run_id)
            run = replace(run, event_id=row.event_id, parent_run_id=row.parent_run_id, trace_id=row.trace_id)
        payload = run.payload
        if not payload:
            payload = (await self._events.event(workspace_id, run.event_id)).payload
        event = event_pb2.Event.FromString(payload)
        facts = replace(facts_of(event, workspace_id), conversation_id=run.conversation_id)
        facts = await self._places.reply_facts(facts)
        return Addressee(run, event, facts, await self._spec(run))

    async def prepare(self, addressee: Addressee) -> Assignment:
        """The first attempt computes what is frozen; a later one takes it as it is.

        Raises NotFound (agent, runner, default model), Unavailable (no runtime for too long), WrongState (also
        KILL_SWITCH).
        """
        run = addressee.run
        why = self._switches.refusal(addressee.workspace_id, SwitchKind.AGENT, run.agent_id)
        if why:
            raise stopped(why, "agent.stopped")
        agent = await self._agents.get(addressee.workspace_id, run.agent_id)
        runner = await self._runtime.find(agent.spec.runner_id, self._patience)
        if run.fence.attempt:
            snapshot, context = await self._restored(addressee)
            frozen = None
        else:
            actions = frozenset(addressee.event.capabilities.platform_actions)
            snapshot = freeze(self._grants.of(agent, runner), addressee.facts, run.event_id, actions)
            context = await self._context(addressee, snapshot)
            await self._add_skills(addressee, snapshot, context)
            kept = self._contexts.kept(snapshot, run.resolution)
            frozen = Frozen(kept.SerializeToString(), context.SerializeToString())
        # Kept without its secrets; the runner gets them.
        revealed = await self._secrets.reveal(addressee.workspace_id, snapshot.spec.config_json)
        if revealed is not snapshot.spec.config_json:
            context.config.CopyFrom(struct_of(revealed))
        attempt = run.fence.attempt + 1
        deadline = now() + round(snapshot.spec.timeout_seconds * SECOND)
        context.attempt = attempt
        context.runtime.trace_id = run.trace_id
        context.runtime.model_gateway_url = self._gateway_url
        context.runtime.bridge_url = self._bridge_url
        context.runtime.deadline.FromMicroseconds(deadline)
        if snapshot.state:
            values = await self._state.snapshot(tuple(snapshot.state.values()), STATE_VALUES)
            context.state.CopyFrom(state_message(values))
        return Assignment(addressee, attempt, snapshot, context, frozen, deadline)

    async def _spec(self, run: QueuedRun) -> AgentSpec | None:
        try:
            return (await self._agents.get(run.fence.workspace_id, run.agent_id)).spec
        except NotFound:
            return None

    async def _context(self, addressee: Addressee, snapshot: Snapshot) -> run_context_pb2.RunContext:
        run = addressee.run
        place = Place(
            event_id=run.event_id,
            event_sequence=run.event_sequence,
            accept_time=now(),
            item_sequence=run.item_sequence or await self._item_sequence(run),
            parent_run_id=run.parent_run_id,
        )
        return self._contexts.context(addressee.run_id, addressee.event, addressee.facts, place, snapshot)

    async def _add_skills(self, addressee: Addressee, snapshot: Snapshot, context: run_context_pb2.RunContext) -> None:
        """Those of the agent's skills that are there now; what is frozen is their names and digests."""
        if snapshot.skills:
            facts = addressee.facts
            found = await self._skills.offered(facts.workspace_id, snapshot.skills, facts.conversation_id)
            has_box = bool(snapshot.session_id)
            context.resources.skills.extend(offered_message(skill, has_box) for skill in found)

    async def _item_sequence(self, run: QueuedRun) -> int:
        if run.payload:
            return 0
        try:
            return (await self._transcript.item(run.fence.workspace_id, item_id_of(run.event_id))).sequence
        except NotFound:
            return 0

    async def _restored(self, addressee: Addressee) -> tuple[Snapshot, run_context_pb2.RunContext]:
        kept, raw = await self._ledgers.snapshot(addressee.workspace_id, addressee.run_id)
        context = run_context_pb2.RunContext.FromString(raw)
        return restore(kept, context, addressee.facts), context
