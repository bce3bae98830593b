"""`portway history`: what was said in a conversation."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.v1 import content_pb2


def register(app: typer.Typer) -> None:
    app.command()(history)


def history(
    conversation: Annotated[str, typer.Argument(help="Conversation id.")],
    before: Annotated[str, typer.Option(help="Only before this cursor (printed by --json).")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 50,
    as_json: Annotated[bool, session.JSON_OPTION] = False,
) -> None:
    """The last messages of a conversation, in order of time."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            page = await host.history(conversation, before=before, limit=limit)
        if as_json:
            session.print_json(page)
            return
        for item in page.items:
            role = session.name_of(content_pb2.MessageRole.DESCRIPTOR, item.role)
            kind = "" if item.kind in ("", "message") else f" ({item.kind})"
            typer.echo(f"{session.when(item.create_time)}  {role}{kind}: {item.content}")

    session.run(work)
