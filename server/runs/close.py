"""Ending a run that nobody executes: from what the database says of it."""

from portway.rpc.errors import Stale, WrongState
from portway.server.effects.store import Effects
from portway.server.effects.types import EffectState
from portway.server.events.amendments import QUIET_REASONS
from portway.server.interactions.store import Interactions
from portway.server.runs.ending import AWAITING, CANCELLED, EFFECT_UNKNOWN, Completed, Failed, failed
from portway.server.runs.execute import Means
from portway.server.runs.journal import Journal
from portway.server.runs.pending import QueuedRun, Work
from portway.server.runs.settle import Settler
from portway.server.runs.store import Runs
from portway.server.runs.types import Run
from portway.server.runs.usage import UsageSum
from portway.server.runs.voice import Voice


class Closer:
    """Settles runs by their row. What somebody else settled meanwhile stays as it is."""

    def __init__(self, means: Means, runs: Runs, effects: Effects, interactions: Interactions) -> None:
        self._means = means
        self._runs = runs
        self._interactions = interactions
        self._effects = effects

    async def fail(self, workspace_id: str, run_id: str, ending: Failed, work: Work, *, answered: bool = False) -> Run:
        """End the run with a notice (unless it was `answered`); answers it as it is then.

        A run that has asked people something completes with that all the same, unless it was cancelled.
        """
        run = await self._runs.run(workspace_id, run_id)
        if run.state.final:
            return run
        # Who has edited or recalled the message sees what came of it, and needs no "stopped".
        answered = answered or (ending.failure.code == CANCELLED and run.cancel_reason in QUIET_REASONS)
        asked = ending.failure.code != CANCELLED and await self.has_asked(workspace_id, run_id)
        ending = ending if asked else await self._worse(run, ending)
        addressee = await self._means.preparer.address(queued(run))
        feed = self._means.feeds.own(workspace_id, run_id, run.last_sequence)
        try:
            writer, cursors = self._means.database.writer, self._means.cursors
            journal = Journal(writer, feed, cursors, run.fence, run.last_sequence)
            voice = Voice(addressee, journal, self._means.outbox)
            settler = self._settler(Settler(addressee, journal, voice, work), workspace_id, run_id)
            if asked:
                settler.complete(Completed(AWAITING, 0), UsageSum())
            else:
                settler.fail(ending, UsageSum(), answered=answered)
            journal.flush()
            await journal.settled()
            feed.end()
        except (Stale, WrongState):
            pass
        finally:
            self._means.feeds.release(feed)
        return await self._runs.run(workspace_id, run_id)

    async def has_asked(self, workspace_id: str, run_id: str) -> bool:
        """Whether its last word is a question to people."""
        return bool(await self._interactions.of_run(workspace_id, run_id))

    def _settler(self, settler: Settler, workspace_id: str, run_id: str) -> Settler:
        decisions = self._means.decisions
        settler.withdraw = lambda tx, failed: decisions.withdraw(tx, workspace_id, run_id, failed)
        settler.withdrawn = decisions.withdrawn
        settler.gives_up_effects = True
        return settler

    async def _worse(self, run: Run, ending: Failed) -> Failed:
        """A command that may have run and whose result is lost is what people must be told of."""
        for effect in await self._effects.of_run(run.workspace_id, run.run_id, 1_000):
            if effect.state in (EffectState.PLANNED, EffectState.UNKNOWN):
                why = f"{ending.failure.message} The tool {effect.tool} was called and its result is lost."
                return failed(EFFECT_UNKNOWN, why)
        return ending


def queued(run: Run) -> QueuedRun:
    """A run as the queue holds it; its event has to be read again."""
    return QueuedRun(
        fence=run.fence,
        event_id=run.event_id,
        event_sequence=run.event_sequence,
        conversation_id=run.conversation_id,
        agent_id=run.agent_id,
        last_sequence=run.last_sequence,
        available_time=run.available_time,
        parent_run_id=run.parent_run_id,
        trace_id=run.trace_id,
    )
