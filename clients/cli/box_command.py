"""`portway box`: the box server, and commands in its sessions."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from portway.clients.box import Box
from portway.clients.cli import session
from portway.clients.cli.box_image_command import image
from portway.clients.endpoint import Endpoint
from portway.v1 import process_pb2, session_pb2

box = typer.Typer(
    no_args_is_help=True,
    help="Run commands in sandbox sessions. With server options (--listen …) it starts the box alone.",
)
Json = Annotated[bool, session.JSON_OPTION]
SessionId = Annotated[str, typer.Option("--session", help="Session id; made where it does not exist.")]

_TIMED_OUT = 124
"""As the command `timeout` says it."""
_READ_BYTES = 64 * 1024


def register(app: typer.Typer) -> None:
    box.add_typer(image, name="image")
    app.add_typer(box, name="box")


@box.command("exec")
def exec_in_session(
    argv: Annotated[list[str], typer.Argument(help="Program and arguments, after `--`.")],
    session_id: SessionId = "cli",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which it is killed.")] = None,
    profile: Annotated[str, typer.Option(help="Profile of a new session.")] = "",
) -> None:
    """Run a command; its own output and exit code come out. 124: it took too long, 128 + N: signal N ended it."""

    async def work(endpoint: Endpoint) -> None:
        async with session.box(endpoint) as client:
            await client.session(session_id, profile=profile)
            raise typer.Exit(await _run(client, session_id, argv, timeout))

    session.run(work)


async def _run(client: Box, session_id: str, argv: list[str], seconds: float | None) -> int:
    stdin = None if sys.stdin.isatty() else _standard_input()
    async for answer in client.exec(session_id, argv, seconds=seconds, stdin=stdin):
        match answer.WhichOneof("kind"):
            case "stdout":
                sys.stdout.buffer.write(answer.stdout)
                sys.stdout.buffer.flush()
            case "stderr":
                sys.stderr.buffer.write(answer.stderr)
                sys.stderr.buffer.flush()
            case "truncated":
                typer.echo(f"[{answer.truncated.missing_bytes} bytes left out]", err=True)
            case "exit":
                return _exit_code(answer.exit)
            case _:
                pass
    typer.echo("portway: the connection ended before the command did; what became of it is not known", err=True)
    return 1


async def _standard_input() -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(os.read, sys.stdin.fileno(), _READ_BYTES):
        yield piece


def _exit_code(end: process_pb2.Exit) -> int:
    match end.status:
        case process_pb2.EXIT_STATUS_COMPLETED:
            return end.exit_code
        case process_pb2.EXIT_STATUS_TIMED_OUT:
            typer.echo("portway: the command took too long and was killed", err=True)
            return _TIMED_OUT
        case process_pb2.EXIT_STATUS_OUT_OF_MEMORY:
            typer.echo("portway: the command needed more memory than its session has and was killed", err=True)
            return 128 + 9
        case _:
            return 128 + (end.signal or 9)


@box.command()
def sessions(as_json: Json = False) -> None:
    """The sessions of the workspace."""

    async def work(endpoint: Endpoint) -> None:
        async with session.box(endpoint) as client:
            found = await client.list_sessions()
        if as_json:
            session.print_json(found)
            return
        rows = [
            (
                s.session_id,
                session.name_of(session_pb2.SessionState.DESCRIPTOR, s.state),
                s.backend,
                str(s.running_count),
                session.when(s.last_use_time),
            )
            for s in found
        ]
        session.print_table(("session", "state", "backend", "running", "last used"), rows)

    session.run(work)


@box.command()
def ps(session_id: SessionId = "cli", as_json: Json = False) -> None:
    """The processes of a session."""

    async def work(endpoint: Endpoint) -> None:
        async with session.box(endpoint) as client:
            found = await client.list_processes(session_id)
        if as_json:
            session.print_json(found)
            return
        rows = [
            (
                p.process_id,
                session.name_of(process_pb2.ProcessState.DESCRIPTOR, p.state),
                " ".join(p.command.argv.args) or p.command.shell,
            )
            for p in found
        ]
        session.print_table(("process", "state", "command"), rows)

    session.run(work)
