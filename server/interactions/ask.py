"""A run asks people something, which is its last word."""

from portway.rpc.errors import Conflict, Reason, WrongState
from portway.server.interactions.rules import checked
from portway.server.interactions.store import add_interaction
from portway.server.interactions.types import NewInteraction
from portway.server.runner_calls.scope import RunScope
from portway.server.storage_engine.clock import now
from portway.server.transcript.types import Role
from portway.v1 import content_pb2, interaction_pb2, run_pb2, run_pull_pb2, run_result_pb2


class InteractionCalls:
    """RequestInteraction, and the same as a result."""

    async def request_interaction(
        self, run: RunScope, request: run_pull_pb2.RequestInteractionRequest
    ) -> run_pull_pb2.RequestInteractionResponse:
        return await self.ask(run, request.interaction)

    async def ask(
        self, run: RunScope, asked: interaction_pb2.Interaction, sequence: int = 0
    ) -> run_pull_pb2.RequestInteractionResponse:
        """Answers once the question is on disk; the run ends soon after. `sequence` is that of the runner's result.

        Raises NotPermitted, InvalidInput, PayloadTooLarge, Conflict (another question has the id), WrongState
        (AWAITING_INTERACTION: it has asked already).
        """
        run.allow("interactions_request", "RequestInteraction")
        stage = run.on_stage
        body = asked.SerializeToString(deterministic=True)
        if not run.asked:
            question = checked(asked, now())
            run.asked = body
            run.receipt = self._put(run, question, sequence)
            stage.flush()
        elif run.asked != body:
            raise _asked_before(run, asked)
        await stage.journal.settled()
        stage.end_soon()
        assert isinstance(run.receipt, run_pull_pb2.RequestInteractionResponse)
        return run.receipt

    def _put(
        self, run: RunScope, question: interaction_pb2.Interaction, sequence: int
    ) -> run_pull_pb2.RequestInteractionResponse:
        """Ledger, transcript, outbox and the question itself, in one unit."""
        stage = run.on_stage
        stage.flush()
        for name in ("title", "description", "fallback_text"):
            setattr(question, name, stage.voice.mask(getattr(question, name)))
        requested = run_result_pb2.ActionRequested(request_id=question.interaction_id, interaction=question)
        stage.journal.append("action_requested", run_pb2.RunEvent(action_requested=requested), sequence, sequence)
        part = content_pb2.QuestionPart(
            run_id=run.run_id, interaction=question, state=interaction_pb2.INTERACTION_STATE_OPEN
        )
        item_id, delivery_id = stage.voice.ask(part, Role.ASSISTANT)
        new = NewInteraction(
            interaction_id=question.interaction_id,
            conversation_id=run.conversation_id,
            event_id=run.event_id,
            agent_id=run.snapshot.agent_id,
            actor_id=run.facts.actor_id if question.only_asked_actor else "",
            request=question.SerializeToString(),
            item_id=item_id,
            delivery_id=delivery_id,
            expire_time=question.expire_time.ToMicroseconds(),
        )
        stage.journal.also(lambda tx: add_interaction(tx, run.fence, new))
        return run_pull_pb2.RequestInteractionResponse(delivery_id=delivery_id, expire_time=question.expire_time)


def _asked_before(run: RunScope, asked: interaction_pb2.Interaction) -> Conflict | WrongState:
    first = interaction_pb2.Interaction.FromString(run.asked)
    if first.interaction_id == asked.interaction_id:
        return Conflict(
            f"the id {asked.interaction_id!r} stands for another question of this run",
            reason=Reason.SAME_KEY_OTHER_BODY,
        )
    return WrongState(
        f"the run has asked {first.interaction_id!r} already, which ends it; the next run may ask more",
        reason=Reason.AWAITING_INTERACTION,
    )
