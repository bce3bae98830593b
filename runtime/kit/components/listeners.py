"""What every event listener must do, whatever it listens for."""

from collections.abc import Sequence

from portway.rpc.errors import NotPermitted, PortwayError
from portway.runtime.kit.behaviours import expect
from portway.runtime.kit.components.trying import ComponentBehaviour, Tried
from portway.runtime.kit.subject import Differs
from portway.runtime.plugins.types import ListenerDefinition
from portway.v1 import component_pb2 as pb
from portway.v1 import content_pb2

MOST = 64


def events(tried: Tried, count: int, first: int = 1) -> list[pb.ObservedEvent]:
    """Events of the types that it listens for."""
    definition = tried.definition
    if not isinstance(definition, ListenerDefinition):
        raise Differs("it is no listener")
    types = [one.replace("*", "kit") if one != "*" else "message.received" for one in definition.event_types]
    made = []
    for sequence in range(first, first + count):
        event = pb.ObservedEvent(sequence=sequence, outcome="recorded")
        event.event.event_id, event.event.type = f"evt_{sequence}", types[sequence % len(types)]
        event.conversation.workspace_id, event.conversation.conversation_id = tried.end.workspace_id, "cnv_kit"
        event.actor.id, event.input.text = "person", f"message {sequence}"
        event.input.contents.append(content_pb2.ContentPart(text=content_pb2.TextPart(text=f"message {sequence}")))
        event.accept_time.GetCurrentTime()
        made.append(event)
    return made


async def sees_events(tried: Tried) -> None:
    await tried.end.observe(events(tried, 3))


async def bears_a_whole_batch(tried: Tried) -> None:
    await tried.end.observe(events(tried, MOST))


async def bears_the_same_again(tried: Tried) -> None:
    """What it may not have seen it is shown again, and what it keeps is the same as after the first time."""
    shown = events(tried, 3)
    await tried.end.observe(shown)
    before = dict(tried.end.things.storage)
    await tried.end.observe(shown)
    expect(dict(tried.end.things.storage), before, "what it keeps after it was shown the same again")


async def bears_a_gap(tried: Tried) -> None:
    await tried.end.observe(events(tried, 1))
    await tried.end.observe(events(tried, 1, first=50), missed=48)


async def bears_bare_events(tried: Tried) -> None:
    """Events of which little is known: nobody, nowhere, without a time."""
    bare = events(tried, 1)[0]
    await tried.end.observe([pb.ObservedEvent(sequence=1, event=bare.event)])


async def asks_for_nothing_else(tried: Tried) -> None:
    await tried.end.observe(events(tried, 5))
    if refused := [one for one in tried.end.things.refusals if isinstance(one, NotPermitted)]:
        raise Differs(f"it asked the host for what a listener has not: {_texts(refused)}")


async def answers_in_the_next_process(tried: Tried) -> None:
    await tried.end.observe(events(tried, 1))
    await tried.subject.recycle()
    await tried.end.observe(events(tried, 1, first=2))


def _texts(errors: Sequence[PortwayError]) -> str:
    return "; ".join(error.message for error in errors)


GENERAL: Sequence[ComponentBehaviour] = (
    ComponentBehaviour("sees events", sees_events),
    ComponentBehaviour("sees 64 events at once", bears_a_whole_batch),
    ComponentBehaviour("keeps the same when it is shown the same again", bears_the_same_again),
    ComponentBehaviour("bears a gap", bears_a_gap),
    ComponentBehaviour("bears events of which little is known", bears_bare_events),
    ComponentBehaviour("asks for nothing but its storage", asks_for_nothing_else),
    ComponentBehaviour("goes on in the next process", answers_in_the_next_process),
)
