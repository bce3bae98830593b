"""Which conversation an event belongs to, where it does not say so itself."""

import dataclasses

from portway.rpc.errors import NotFound
from portway.server.agents.types import Agent
from portway.server.conversations.store import Conversations
from portway.server.conversations.types import Conversation, ConversationState
from portway.server.events.facts import EventFacts
from portway.server.events.submit import Submit


class Places:
    """Reads; begins nothing."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def current(self, facts: EventFacts) -> EventFacts:
        """With the conversation that its chat is in now."""
        if facts.conversation_id or not facts.chat_key:
            return facts
        try:
            current = await self._conversations.current(facts.workspace_id, facts.chat_key)
        except NotFound:
            return facts
        return dataclasses.replace(facts, conversation_id=current.conversation_id)

    async def of_agent(self, submit: Submit, agent: Agent | None) -> Submit:
        """An event that happened nowhere in particular, and that nobody waits on, goes to where its agent says."""
        facts = submit.facts
        if agent is None or facts.has_place or facts.expects_reply:
            return submit
        wanted = agent.spec.delivery_policy.default_conversation_id
        found = await self._open(facts.workspace_id, wanted) if wanted else submit.own_conversation_id
        if not found:
            return submit
        return dataclasses.replace(submit, facts=dataclasses.replace(facts, conversation_id=found))

    async def reply_facts(self, facts: EventFacts) -> EventFacts:
        """The facts with the chat of its conversation, for an event that names none of its own."""
        if facts.expects_reply or facts.launcher_id or facts.reply_target or not facts.conversation_id:
            return facts
        try:
            place = await self._conversations.conversation(facts.workspace_id, facts.conversation_id)
        except NotFound:
            return facts
        return _in_chat(facts, place)

    async def _open(self, workspace_id: str, conversation_id: str) -> str:
        """The conversation, or the one that its chat is in since; '' where there is none."""
        try:
            place = await self._conversations.conversation(workspace_id, conversation_id)
            if place.state is ConversationState.OPEN:
                return conversation_id
            return (await self._conversations.current(workspace_id, place.chat_key)).conversation_id
        except NotFound:
            return ""


def _in_chat(facts: EventFacts, place: Conversation) -> EventFacts:
    return dataclasses.replace(
        facts,
        surface=place.surface,
        bot_id=place.bot_id,
        channel_id=place.channel_id,
        launcher_type=place.launcher_type,
        launcher_id=place.launcher_id,
        thread_id=place.thread_id,
        reply_target=place.reply_target,
    )
