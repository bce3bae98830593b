"""What a runner remembers of a service between runs, in the state of the conversation."""

import hashlib
from typing import Any

from portway.rpc.errors import NotFound, NotPermitted
from portway.runtime.sdk.host.api import HostApi
from portway.runtime.sdk.types.context import RunContext
from portway.runtime.sdk.types.results import StateScope


def person_of(ctx: RunContext) -> str:
    """A stable name for who speaks, that tells a service nothing about them: it is a digest."""
    bot, actor = ctx.conversation.bot_id, ctx.actor.id or ctx.conversation.sender_id
    who = actor or ctx.conversation.conversation_id or ctx.agent_id
    return _named(ctx.conversation.workspace_id, ctx.adapter.platform, bot, ctx.actor.type, who)


def session_of(ctx: RunContext) -> str:
    """A stable name for the conversation (and its thread), for services that let callers name their sessions."""
    place = (ctx.conversation.workspace_id, ctx.conversation.conversation_id, ctx.conversation.thread_id, ctx.agent_id)
    if not ctx.conversation.conversation_id:
        return person_of(ctx)
    return _named(*place)


def _named(*about: str) -> str:
    return f"portway-{_digest(*about)}"


def _digest(*about: str) -> str:
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:24]


class Memory:
    """One value by the place and the person it belongs to. A run without state remembers nothing.

    The application is part of the key: an agent that is pointed at another one does not take over its conversations.
    """

    def __init__(self, host: HostApi, runner: str, what: str, *belongs_to: str) -> None:
        self._host = host
        self._key = f"{runner}.{what}.{_digest(*belongs_to)}"
        self._known: Any = None

    async def recall(self) -> Any:
        try:
            value = await self._host.state.get(StateScope.CONVERSATION, self._key)
        except NotPermitted:
            return None
        self._known = value.value if value else None
        return self._known

    async def keep(self, value: Any) -> None:
        """Writes the value unless it is there already; at once, so that a run that fails later leaves it too."""
        if value == self._known:
            return
        try:
            await self._host.state.set(StateScope.CONVERSATION, self._key, value)
        except (NotPermitted, NotFound):
            # The event belongs to no conversation, or the agent's policy takes state away.
            return
        self._known = value

    async def forget(self) -> None:
        if self._known is None:
            return
        self._known = None
        try:
            await self._host.state.delete(StateScope.CONVERSATION, self._key)
        except (NotPermitted, NotFound):
            return
