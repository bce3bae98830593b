"""`portway send`: one message, with or without waiting for its answer."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.printer import RunPrinter
from portway.clients.endpoint import Endpoint
from portway.clients.host import Accepted, Finished
from portway.v1 import run_pb2


def register(app: typer.Typer) -> None:
    app.command()(send)


def send(
    text: Annotated[str, typer.Argument(help="What to say.")],
    conversation: Annotated[str, typer.Option(help="Conversation; a new one if empty.")] = "",
    agent: Annotated[str, typer.Option(help="Agent; the bound one if empty.")] = "",
    idempotency_key: Annotated[str, typer.Option(help="Key that makes sending again harmless.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answer and print it while it is written.")] = False,
    as_json: Annotated[bool, session.JSON_OPTION] = False,
) -> None:
    """Send a message. Without --wait it prints the ids; the exit code is 1 where the run failed."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            if not wait:
                sent = await host.send(
                    text, conversation_id=conversation, agent_id=agent, idempotency_key=idempotency_key
                )
                _print_accepted(sent, as_json)
                return
            printer, accepted, finished = RunPrinter(), None, None
            stream = host.chat(text, conversation_id=conversation, agent_id=agent, idempotency_key=idempotency_key)
            async for item in stream:
                if isinstance(item, Accepted):
                    accepted = item
                elif isinstance(item, Finished):
                    finished = item
                elif not as_json:
                    printer.show(item)
            if as_json:
                session.print_json(_outcome(accepted, finished))
            if finished is not None and finished.run.state != run_pb2.RUN_STATE_COMPLETED:
                raise typer.Exit(1)

    session.run(work)


def _print_accepted(accepted: Accepted, as_json: bool) -> None:
    if as_json:
        session.print_json(_ids(accepted))
        return
    again = " (accepted before)" if accepted.duplicate else ""
    typer.echo(f"accepted{again}: event {accepted.event_id}, run {accepted.run_id or 'none'}")
    typer.echo(f"conversation {accepted.conversation_id}")


def _ids(accepted: Accepted) -> dict[str, object]:
    return {
        "event_id": accepted.event_id,
        "run_id": accepted.run_id,
        "conversation_id": accepted.conversation_id,
        "duplicate": accepted.duplicate,
    }


def _outcome(accepted: Accepted | None, finished: Finished | None) -> dict[str, object]:
    outcome = _ids(accepted) if accepted else {}
    if finished is not None:
        outcome["state"] = run_pb2.RunState.Name(finished.run.state)
        outcome["text"] = finished.reply.content if finished.reply else ""
        outcome["run"] = finished.run
        outcome["reply"] = finished.reply
    return outcome
