"""The agent that comes with Portway: models, tools, knowledge, and the history of the conversation."""

from collections.abc import AsyncIterator, Sequence

from portway.rpc.errors import PortwayError, Reason
from portway.runtime.official.local_agent.asking import MESSAGE_KEY, Asking
from portway.runtime.official.local_agent.context.begin import Beginning, steered
from portway.runtime.official.local_agent.context.knowledge import Knowledge, SearchKnowledge
from portway.runtime.official.local_agent.context.talk import Talk
from portway.runtime.official.local_agent.purse import Purse
from portway.runtime.official.local_agent.settings import Settings, read_settings
from portway.runtime.official.local_agent.tools.attachments import ReadAttachment
from portway.runtime.official.local_agent.tools.own import OwnTool, offered
from portway.runtime.official.local_agent.tools.pending import PENDING_KEY, pending_of
from portway.runtime.official.local_agent.tools.question import AskPerson
from portway.runtime.official.local_agent.tools.repeats import Repeats
from portway.runtime.official.local_agent.tools.round import ToolBox, ToolRound
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    Progress,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
    StateScope,
)

# Answers of one run to what people write while it answers.
MAX_FURTHER = 16


class LocalAgent(AgentRunner):
    """Asks the model, calls what it wants called, and asks again, until it has nothing more to call."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx)
        purse = Purse(ctx.runtime.budget)
        asking = Asking(host, settings.model, purse)
        knowledge = Knowledge(ctx, host, settings.knowledge)
        beginning = Beginning(ctx, host, settings.model, settings.history, asking)
        async for progress in beginning.results(knowledge):
            yield progress
        conversing = _Conversing(ctx, host, settings, asking, purse, beginning.talk, knowledge)
        try:
            async for result in conversing.results():
                yield result
        except PortwayError as error:
            if error.reason != Reason.BUDGET_EXHAUSTED or not asking.said:
                raise
            yield Progress("the budget of the run is spent: it ends with what was said")
            conversing.finish = FinishReason.LENGTH
        for said in asking.add(knowledge.sources(asking.said)):
            yield said
        if asking.said:
            yield MessageCompleted.of_text(asking.said, message_key=MESSAGE_KEY)
        if lines := purse.lines():
            yield Progress(lines)
        yield RunCompleted(conversing.finish, usage=purse.total)


class _Conversing:
    """The rounds of one run. `finish` is why it ended."""

    def __init__(
        self,
        ctx: RunContext,
        host: HostApi,
        settings: Settings,
        asking: Asking,
        purse: Purse,
        talk: Talk,
        knowledge: Knowledge,
    ) -> None:
        self._ctx = ctx
        self._host = host
        self._settings = settings
        self._asking = asking
        self._purse = purse
        self._talk = talk
        self._events = [ctx.event.event_id]
        own = _own_tools(ctx, host, settings, knowledge)
        tools, kept = offered(settings.tools.tools, own)
        self._box = ToolBox(host, settings.tools, tools, kept, Repeats(settings.tools.repeats))
        self._further = 0
        self.finish = FinishReason.STOP

    async def results(self) -> AsyncIterator[RunResult]:
        number = 0
        while True:
            may_call = number < self._settings.tools.max_rounds and not self._is_last()
            async for result in self._asking.ask(self._talk, self._box.offered, may_call=may_call):
                yield result
            asked = self._asking.message.tool_calls if may_call else ()
            if not asked:
                if await self._goes_on():
                    continue
                finish = self._asking.finish
                self.finish = finish if may_call or finish is not FinishReason.STOP else FinishReason.TOOL_LIMIT
                return
            number += 1
            turn = ToolRound(self._box, number, asked, left_out=self._asking.left_out, most=self._purse.calls_left)
            async for told in turn.results():
                yield told
            self._purse.paid_tools(turn.count)
            self._talk.add_round(self._asking.message, turn.messages())
            if turn.question is not None:
                await self._ask_people(turn)
                self.finish = FinishReason.AWAITING_INTERACTION
                return
            await self._take_steering()

    def _is_last(self) -> bool:
        """Whether only an answer is left to do: the money is nearly spent, or the model goes in circles."""
        return self._box.repeats.is_hopeless or self._purse.is_nearly_spent(self._talk.tokens())

    async def _goes_on(self) -> bool:
        """Whether people wrote meanwhile: then the answer was not the last one."""
        if self._asking.is_cut or self._further >= MAX_FURTHER:
            return False
        self._further += 1
        messages, events = await steered(self._ctx, self._host)
        self._events += events
        if not messages:
            return False
        if self._asking.message.parts:
            self._talk.add(self._asking.message)
        self._talk.add(*messages)
        return True

    async def _take_steering(self) -> None:
        messages, events = await steered(self._ctx, self._host)
        self._events += events
        self._talk.add(*messages)

    async def _ask_people(self, turn: ToolRound) -> None:
        """The context first, so that an answer always finds it."""
        if turn.question is None or turn.question_call is None:
            raise RunFailure("runner.error", "there is no question to ask")
        asked, call_id = turn.question.interaction, turn.question_call.call_id
        pending = pending_of(self._ctx.run_id, asked, call_id, self._events, self._talk.now)
        if self._ctx.permissions.allow("state"):
            await self._host.state.set(StateScope.CONVERSATION, PENDING_KEY, pending.dump())
        await self._host.interactions.request(asked)


def _own_tools(ctx: RunContext, host: HostApi, settings: Settings, knowledge: Knowledge) -> Sequence[OwnTool]:
    """What the runner offers beside the host's tools."""
    own: list[OwnTool] = []
    allow = ctx.permissions.allow
    if settings.knowledge.as_tool and not knowledge.is_off:
        own.append(SearchKnowledge(ctx, knowledge, settings.knowledge))
    if settings.tools.ask_people and allow("interactions_request") and ctx.delivery.surface:
        own.append(AskPerson())
    if ctx.input.attachments and allow("artifacts_read") and allow("artifacts_metadata"):
        own.append(ReadAttachment(host))
    return own
