"""What bindings, guards and session names look at in an event."""

from dataclasses import dataclass

MESSAGE = "message.received"
EDIT = "message.edited"
RECALL = "message.recalled"
AMENDMENTS = (EDIT, RECALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """The plain facts of an event.

    `text` is that of all its text parts; `conversation_id` is '' where it is not known yet.
    """

    workspace_id: str
    type: str
    source: str
    text: str = ""
    surface: str = ""
    bot_id: str = ""
    channel_id: str = ""
    conversation_id: str = ""
    launcher_type: str = ""
    launcher_id: str = ""
    thread_id: str = ""
    reply_target: str = ""
    actor_id: str = ""
    actor_name: str = ""
    subject_type: str = ""
    subject_id: str = ""
    addressed: bool = False

    @property
    def delivers(self) -> bool:
        """Whether replies go out by an adapter. A caller of the API watches its run instead."""
        return self.surface not in ("", "api")

    @property
    def expects_reply(self) -> bool:
        """Whether silence would leave somebody waiting."""
        return self.type in (MESSAGE, EDIT, "api.invoked", "interaction.submitted")

    @property
    def has_place(self) -> bool:
        """Whether the event says where a reply goes."""
        return bool(self.launcher_id or self.conversation_id or self.reply_target)

    @property
    def chat_key(self) -> str:
        """The chat on its platform; '' where the event names none. The parts cannot run into one another."""
        if not self.launcher_id:
            return ""
        parts = (self.surface, self.bot_id, self.launcher_type, self.launcher_id, self.thread_id)
        return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
