"""One call of a model with the history of the conversation: the agent that comes with Portway, without its tools."""

from collections.abc import AsyncIterator

from portway.runtime.official.local_agent.asking import MESSAGE_KEY, Asking
from portway.runtime.official.local_agent.config import Config
from portway.runtime.official.local_agent.context.begin import Beginning
from portway.runtime.official.local_agent.purse import Purse
from portway.runtime.official.local_agent.settings import (
    HISTORY_FIELDS,
    MODEL_FIELDS,
    history_settings,
    model_settings,
)
from portway.runtime.sdk import (
    AgentRunner,
    HostApi,
    MessageCompleted,
    Progress,
    RunCompleted,
    RunContext,
    RunResult,
)


class DirectChat(AgentRunner):
    """What a model wants to call is not called: it is offered nothing."""

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        config = Config(ctx.config, (*MODEL_FIELDS, *HISTORY_FIELDS))
        model = model_settings(config, ctx)
        purse = Purse(ctx.runtime.budget)
        asking = Asking(host, model, purse)
        beginning = Beginning(ctx, host, model, history_settings(config, model), asking)
        async for progress in beginning.results():
            yield progress
        async for result in asking.ask(beginning.talk, (), may_call=False):
            yield result
        if asking.said:
            yield MessageCompleted.of_text(asking.said, message_key=MESSAGE_KEY)
        if lines := purse.lines():
            yield Progress(lines)
        yield RunCompleted(asking.finish, usage=purse.total)
