"""`portway box sessions`: list, create, show, watch, delete."""

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from portway.clients.box import CALL_SECONDS
from portway.clients.cli import session
from portway.clients.cli.box.reaching import Json, ReachedBox, Workspace, reached
from portway.clients.endpoint import Endpoint
from portway.rpc.status import errors_by_meaning
from portway.v1 import session_pb2

sessions = typer.Typer(invoke_without_command=True, help="Sessions of the box; alone: the list.")
Labels = Annotated[list[str] | None, typer.Option("--label", "-l", help="NAME=VALUE, as often as needed.")]
SessionId = Annotated[str, typer.Argument(help="Session id.")]


def register(box: typer.Typer) -> None:
    box.add_typer(sessions, name="sessions")


@sessions.callback()
def default(context: typer.Context, label: Labels = None, workspace: Workspace = "", as_json: Json = False) -> None:
    """Sessions of the box; alone: the list."""
    if context.invoked_subcommand is None:
        list_sessions(label, workspace, as_json)


@sessions.command("list")
def list_sessions(label: Labels = None, workspace: Workspace = "", as_json: Json = False) -> None:
    """All sessions with these labels, the newest first."""
    labels = _labels(label)

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            shown = await _all(found, labels)
        if as_json:
            session.print_json(shown)
            return
        session.print_table(("session", "state", "profile", "backend", "running", "last used"), map(_row, shown))

    session.run(work)


async def _all(found: ReachedBox, labels: dict[str, str]) -> list[session_pb2.Session]:
    request = session_pb2.ListSessionsRequest(workspace_id=found.workspace_id, labels=labels, page_size=200)
    shown: list[session_pb2.Session] = []
    while True:
        with errors_by_meaning():
            page = await found.box.sessions.ListSessions(request, timeout=CALL_SECONDS)
        shown += page.sessions
        request.page_token = page.next_page_token
        if not request.page_token:
            return shown


def _row(one: session_pb2.Session) -> tuple[str, ...]:
    state = session.name_of(session_pb2.SessionState.DESCRIPTOR, one.state)
    if one.reason:
        state += f": {one.reason}"
    running, used = str(one.running_count), session.when(one.last_use_time)
    return one.session_id, state, one.spec.profile, one.backend, running, used


@sessions.command()
def create(
    session_id: SessionId,
    profile: Annotated[str, typer.Option(help="Profile: values, some of them locked.")] = "",
    image: Annotated[str, typer.Option(help="Image, where the backend has images.")] = "",
    label: Labels = None,
    ttl: Annotated[int, typer.Option(min=0, help="Seconds without use after which it goes; 0: the profile's.")] = 0,
    persistent: Annotated[bool, typer.Option("--persistent", help="Keep it, also over restarts of the box.")] = False,
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """Make a session, or find that it exists as asked for."""
    spec = session_pb2.SessionSpec(profile=profile, image=image, persistent=persistent, labels=_labels(label))
    if ttl:
        spec.ttl.CopyFrom(Duration(seconds=ttl))

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            request = session_pb2.CreateSessionRequest(
                session_id=session_id, workspace_id=found.workspace_id, spec=spec
            )
            with errors_by_meaning():
                answer = await found.box.sessions.CreateSession(request)
        if as_json:
            session.print_json(answer)
            return
        typer.echo(f"session {session_id} {'was there' if answer.existed else 'made'}")
        for limit in answer.session.unenforced_limits:
            typer.echo(f"  not enforced here: {limit}", err=True)

    session.run(work)


@sessions.command()
def show(session_id: SessionId, workspace: Workspace = "", as_json: Json = False) -> None:
    """One session: its spec in force, what it uses and what it holds on the machine."""

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            names = {"session_id": session_id, "workspace_id": found.workspace_id}
            with errors_by_meaning():
                answer = await found.box.sessions.GetSession(
                    session_pb2.GetSessionRequest(**names), timeout=CALL_SECONDS
                )
                held = await found.box.sessions.ListHeld(
                    session_pb2.ListHeldRequest(page_size=200, **names), timeout=CALL_SECONDS
                )
        if as_json:
            session.print_json({"session": answer.session, "held": list(held.items)})
            return
        session.print_table(("session", "state", "profile", "backend", "running", "last used"), [_row(answer.session)])
        rows = [(item.kind, item.id, item.state, session.when(item.create_time)) for item in held.items]
        session.print_table(("holds", "id", "state", "since"), rows)

    session.run(work)


@sessions.command()
def watch(label: Labels = None, workspace: Workspace = "", as_json: Json = False) -> None:
    """What there is, then every change, until Ctrl-C."""
    labels = _labels(label)

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            request = session_pb2.WatchSessionsRequest(workspace_id=found.workspace_id, labels=labels)
            with errors_by_meaning():
                async for event in found.box.sessions.WatchSessions(request):
                    _print_event(event, as_json)

    session.run(work)


def _print_event(event: session_pb2.WatchSessionsResponse, as_json: bool) -> None:
    if as_json:
        session.print_json_line(event)
        return
    match event.WhichOneof("kind"):
        case "snapshot":
            for one in event.snapshot.sessions:
                typer.echo("\t".join(_row(one)))
        case "changed":
            typer.echo("\t".join(_row(event.changed)))
        case "deleted":
            typer.echo(f"{event.deleted.session_id}\tdeleted")
        case _:
            pass


@sessions.command()
def delete(session_id: SessionId, workspace: Workspace = "", as_json: Json = False) -> None:
    """End everything in a session and remove its files."""

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            request = session_pb2.DeleteSessionRequest(session_id=session_id, workspace_id=found.workspace_id)
            with errors_by_meaning():
                answer = await found.box.sessions.DeleteSession(request)
        if as_json:
            session.print_json(answer)
        else:
            typer.echo(f"session {session_id} deleted; {answer.killed_process_count} processes were killed")

    session.run(work)


def _labels(given: list[str] | None) -> dict[str, str]:
    labels = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"--label {text!r}: write NAME=VALUE")
        labels[name] = value
    return labels
