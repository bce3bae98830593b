"""`portway chat`: a conversation in the terminal."""

import asyncio
import uuid
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.printer import RunPrinter
from portway.clients.endpoint import Endpoint
from portway.clients.host import Accepted, Finished, Portway


def register(app: typer.Typer) -> None:
    app.command()(chat)


def chat(
    conversation: Annotated[str, typer.Option(help="Conversation to continue; a new one if empty.")] = "",
    agent: Annotated[str, typer.Option(help="Agent; the bound one if empty.")] = "",
) -> None:
    """Talk with an agent. Ctrl-C stops the answer that is being written; Ctrl-D ends."""

    async def work(endpoint: Endpoint) -> None:
        name = conversation or f"cli-{uuid.uuid4().hex[:12]}"
        typer.echo(f"conversation {name}; Ctrl-C stops an answer, Ctrl-D ends")
        async with session.host(endpoint) as host:
            while True:
                text = await _ask()
                if text is None:
                    return
                if text.strip():
                    await _turn(host, text, name, agent)

    session.run(work)


async def _ask() -> str | None:
    try:
        return await asyncio.to_thread(input, "> ")
    except EOFError:
        typer.echo("")
        return None


async def _turn(host: Portway, text: str, conversation: str, agent: str) -> None:
    printer, run_id = RunPrinter(), ""
    try:
        async for item in host.chat(text, conversation_id=conversation, agent_id=agent):
            if isinstance(item, Accepted):
                run_id = item.run_id
            elif not isinstance(item, Finished):
                printer.show(item)
    except asyncio.CancelledError:
        # Ctrl-C cancels this task once: stop the run, not the conversation.
        task = asyncio.current_task()
        if not run_id or task is None:
            raise
        task.uncancel()
        await host.runs.cancel(run_id, "stopped in the terminal")
        typer.echo("\n[stopped]")
