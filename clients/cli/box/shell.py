"""`portway box shell`: a shell in a session, with a terminal."""

import asyncio
import os
import signal
from typing import Annotated

import typer

from portway.clients.box import CALL_SECONDS
from portway.clients.cli import session
from portway.clients.cli.box.attachment import Attachment, Left
from portway.clients.cli.box.reaching import ReachedBox, Workspace, reached
from portway.clients.cli.box.terminal import Terminal, handling_signals, raw_terminal
from portway.clients.endpoint import Endpoint
from portway.rpc.errors import PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2

_STOP_SECONDS = 2


def register(box: typer.Typer) -> None:
    box.command()(shell)


def shell(
    session_id: Annotated[str, typer.Argument(help="Session id; made where it does not exist.")] = "cli",
    process: Annotated[str, typer.Option(help="Join this process, which has a terminal, instead of a new shell.")] = "",
    program: Annotated[str, typer.Option("--shell", help="The shell to start.")] = "/bin/sh",
    profile: Annotated[str, typer.Option(help="Profile of a new session.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Let the shell go on when this terminal is closed.")] = False,
    workspace: Workspace = "",
) -> None:
    """A shell in a session. Every key goes inside, Ctrl-C too; `~.` after Enter leaves and lets it go on.

    The exit code is the shell's; 255 where its end was not seen. A lost connection is made again for two minutes.
    """

    async def work(endpoint: Endpoint) -> None:
        # Before anything is started for somebody who has no terminal.
        terminal = Terminal()
        async with reached(endpoint, workspace) as found:
            name, ours = process, not process
            if ours:
                await found.box.session(session_id, workspace_id=found.workspace_id, profile=profile)
                name = await _start(found, session_id, program, terminal)
            raise typer.Exit(await _stay(found, session_id, name, ends_with_us=ours and not keep))

    session.run(work)


async def _start(found: ReachedBox, session_id: str, program: str, terminal: Terminal) -> str:
    name = f"shell-{os.urandom(4).hex()}"
    command = process_pb2.Command(argv=process_pb2.Argv(args=[program]), terminal=terminal.size())
    command.env["TERM"] = os.environ.get("TERM", "xterm-256color")
    request = process_pb2.StartProcessRequest(
        session_id=session_id, workspace_id=found.workspace_id, process_id=name, command=command
    )
    with errors_by_meaning():
        await found.box.processes.StartProcess(request, timeout=CALL_SECONDS)
    return name


async def _stay(found: ReachedBox, session_id: str, name: str, *, ends_with_us: bool) -> int:
    by_signal: list[signal.Signals] = []
    try:
        with raw_terminal() as terminal:
            attachment = Attachment(found, terminal, session_id, name)
            staying = asyncio.ensure_future(attachment.run())

            def end(number: signal.Signals) -> None:
                by_signal.append(number)
                staying.cancel()

            def came_back() -> None:
                terminal.go_raw()
                attachment.resize()

            handlers = {
                signal.SIGWINCH: attachment.resize,
                signal.SIGCONT: came_back,
                signal.SIGTERM: lambda: end(signal.SIGTERM),
                signal.SIGHUP: lambda: end(signal.SIGHUP),
            }
            with handling_signals(handlers):
                await asyncio.wait([staying])
            if staying.cancelled():
                return 128 + by_signal[0] if by_signal else 130
            return staying.result()
    except Left as leaving:
        if not leaving.hung_up:
            typer.echo(
                f"portway: left; it goes on, and `portway box shell {session_id} --process {name}` comes back", err=True
            )
            return 0
        by_signal.append(signal.SIGHUP)
        return 128 + signal.SIGHUP
    finally:
        if ends_with_us and by_signal:
            await _stop(found, session_id, name)


async def _stop(found: ReachedBox, session_id: str, name: str) -> None:
    """Nobody is there any more to type into it."""
    request = process_pb2.StopProcessRequest(session_id=session_id, workspace_id=found.workspace_id, process_id=name)
    request.grace.FromSeconds(_STOP_SECONDS)
    try:
        with errors_by_meaning():
            await found.box.processes.StopProcess(request, timeout=_STOP_SECONDS + 5)
    except PortwayError as error:
        typer.echo(f"portway: {name} may still run in {session_id}: {error.message}", err=True)
