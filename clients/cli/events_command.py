"""`portway events`: list, show, explain."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import event_pb2

events = typer.Typer(no_args_is_help=True, help="Look at events and at what became of them.")
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(events, name="events")


@events.command("list")
def list_events(
    conversation: Annotated[str, typer.Option(help="Only of this conversation.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: Json = False,
) -> None:
    """The newest events."""

    async def work(endpoint: Endpoint) -> None:
        request = event_pb2.ListEventsRequest(conversation_id=conversation, page_size=limit)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.events.ListEvents(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(page)
            return
        rows = [
            (
                e.event_id,
                e.type,
                session.name_of(event_pb2.EventOutcome.DESCRIPTOR, e.outcome),
                e.conversation_id,
                e.summary[:60],
            )
            for e in page.events
        ]
        session.print_table(("event", "type", "outcome", "conversation", "what"), rows)

    session.run(work)


@events.command()
def show(event_id: Annotated[str, typer.Argument(help="Event id.")], as_json: Json = False) -> None:
    """One event."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.events.GetEvent(event_pb2.GetEventRequest(event_id=event_id), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer)
            return
        text = "".join(part.text.text for part in answer.event.parts if part.HasField("text"))
        rows = [
            ("type", answer.event.type),
            ("source", answer.event.source),
            ("outcome", session.name_of(event_pb2.EventOutcome.DESCRIPTOR, answer.outcome)),
            ("runs", ", ".join(answer.run_ids)),
            ("conversation", answer.event.address.conversation_id),
            ("accepted", session.when(answer.event.accept_time)),
            ("text", text[:200]),
        ]
        session.print_table(("", event_id), rows)

    session.run(work)


@events.command()
def explain(
    message_id: Annotated[str, typer.Argument(help="Event, message or delivery id.")], as_json: Json = False
) -> None:
    """Everything that happened to a message, and why."""

    async def work(endpoint: Endpoint) -> None:
        request = event_pb2.ExplainMessageRequest(id=message_id)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.events.ExplainMessage(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer)
            return
        typer.echo(answer.conclusion)
        rows = [(session.when(s.time), s.stage, "ok" if s.ok else "not ok", s.summary) for s in answer.steps]
        session.print_table(("time", "stage", "", "what"), rows)

    session.run(work)
