"""`portway box exec`: one command, with its own output and exit code."""

import sys
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.box.endings import LOST, exit_code
from portway.clients.cli.box.reaching import ReachedBox, Workspace, reached
from portway.clients.cli.box.standard_input import pieces
from portway.clients.endpoint import Endpoint


def register(box: typer.Typer) -> None:
    box.command("exec")(exec_in_session)


def exec_in_session(
    argv: Annotated[list[str], typer.Argument(help="Program and arguments, after `--`.")],
    session_id: Annotated[str, typer.Option("--session", help="Session id; made where it does not exist.")] = "cli",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which it is killed.")] = None,
    profile: Annotated[str, typer.Option(help="Profile of a new session.")] = "",
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, as often as needed.")] = None,
    workspace: Workspace = "",
) -> None:
    """Run a command; its own output and exit code come out. 124: it took too long, 128 + N: signal N ended it."""
    variables = dict(_variable(one) for one in env or [])

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            await found.box.session(session_id, workspace_id=found.workspace_id, profile=profile)
            raise typer.Exit(await _run(found, session_id, argv, timeout, variables))

    session.run(work)


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise typer.BadParameter(f"--env {text!r}: write NAME=VALUE")
    return name, value


async def _run(found: ReachedBox, session_id: str, argv: list[str], seconds: float | None, env: dict[str, str]) -> int:
    stdin = None if sys.stdin.isatty() else pieces(sys.stdin.fileno())
    answers = found.box.exec(session_id, argv, workspace_id=found.workspace_id, seconds=seconds, env=env, stdin=stdin)
    async for answer in answers:
        match answer.WhichOneof("kind"):
            case "stdout":
                sys.stdout.buffer.write(answer.stdout)
                sys.stdout.buffer.flush()
            case "stderr":
                sys.stderr.buffer.write(answer.stderr)
                sys.stderr.buffer.flush()
            case "truncated":
                typer.echo(f"portway: {answer.truncated.missing_bytes} bytes are left out here", err=True)
            case "exit":
                return exit_code(answer.exit)
            case _:
                pass
    typer.echo("portway: the connection ended before the command did; what became of it is not known", err=True)
    return LOST
