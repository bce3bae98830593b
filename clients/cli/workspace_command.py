"""`portway workspace`: list, show, create, quota, disable, enable, delete."""

from collections.abc import Callable
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS, Portway
from portway.rpc.status import errors_by_meaning
from portway.v1 import workspace_pb2 as pb

# Deleting one erases all that it holds before it answers.
DELETE_SECONDS = 600.0

workspace = typer.Typer(no_args_is_help=True, help="Workspaces: who shares what, and how much of it.")
Json = Annotated[bool, session.JSON_OPTION]
Id = Annotated[str, typer.Argument(help="Workspace id.")]
Limit = Annotated[int | None, typer.Option(min=0, help="0: no limit.")]


def register(app: typer.Typer) -> None:
    app.add_typer(workspace, name="workspace")


@workspace.command("list")
def list_workspaces(as_json: Json = False) -> None:
    """The first 200 workspaces."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = pb.ListWorkspacesRequest(page_size=200)
                page = await host.workspaces.ListWorkspaces(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.workspaces))
            return
        rows = [
            (one.workspace_id, one.name, "off" if one.disabled else "on", session.when(one.create_time))
            for one in page.workspaces
        ]
        session.print_table(("workspace", "name", "state", "made"), rows)

    session.run(work)


@workspace.command()
def show(workspace_id: Id) -> None:
    """Everything of one workspace, as JSON."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            session.print_json(await _read(host, workspace_id))

    session.run(work)


@workspace.command()
def create(
    workspace_id: Id,
    name: Annotated[str, typer.Option(help="What people call it; empty: its id.")] = "",
    as_json: Json = False,
) -> None:
    """Make a workspace. `portway tokens create --workspace ID` makes a token in it."""

    async def work(endpoint: Endpoint) -> None:
        request = pb.CreateWorkspaceRequest(
            workspace=pb.Workspace(workspace_id=workspace_id, name=name or workspace_id)
        )
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.workspaces.CreateWorkspace(request, timeout=CALL_SECONDS)
        _told(answer.workspace, "made", as_json)

    session.run(work)


@workspace.command()
def quota(
    workspace_id: Id,
    active_runs: Limit = None,
    queued_runs: Limit = None,
    events_per_minute: Limit = None,
    artifact_bytes: Limit = None,
    box_sessions: Limit = None,
    as_json: Json = False,
) -> None:
    """Change what it may hold and do at once; what is not named stays."""
    wanted = {
        "max_active_runs": active_runs,
        "max_queued_runs": queued_runs,
        "events_per_minute": events_per_minute,
        "max_artifact_bytes": artifact_bytes,
        "max_box_sessions": box_sessions,
    }

    def change(found: pb.Workspace) -> None:
        for field, value in wanted.items():
            if value is not None:
                setattr(found.quota, field, value)

    _change(workspace_id, change, "changed", as_json)


@workspace.command()
def disable(workspace_id: Id, as_json: Json = False) -> None:
    """Switch it off: its callers are refused, its runs are cancelled."""
    _change(workspace_id, lambda found: setattr(found, "disabled", True), "off", as_json)


@workspace.command()
def enable(workspace_id: Id, as_json: Json = False) -> None:
    """Switch it on again."""
    _change(workspace_id, lambda found: setattr(found, "disabled", False), "on", as_json)


@workspace.command()
def delete(
    workspace_id: Id,
    force: Annotated[bool, typer.Option(help="Also while runs of it execute: they are cancelled.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a workspace with everything in it. There is no way back."""
    if not yes:
        typer.confirm(f"Erase the workspace {workspace_id} and everything in it?", abort=True)

    async def work(endpoint: Endpoint) -> None:
        request = pb.DeleteWorkspaceRequest(workspace_id=workspace_id, force=force)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.workspaces.DeleteWorkspace(request, timeout=DELETE_SECONDS)
        typer.echo(f"workspace {workspace_id} erased")

    session.run(work)


async def _read(host: Portway, workspace_id: str) -> pb.Workspace:
    with errors_by_meaning():
        request = pb.GetWorkspaceRequest(workspace_id=workspace_id)
        answer: pb.GetWorkspaceResponse = await host.workspaces.GetWorkspace(request, timeout=CALL_SECONDS)
    return answer.workspace


def _change(workspace_id: str, change: Callable[[pb.Workspace], None], what: str, as_json: bool) -> None:
    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            found = await _read(host, workspace_id)
            change(found)
            with errors_by_meaning():
                request = pb.UpdateWorkspaceRequest(workspace=found)
                answer = await host.workspaces.UpdateWorkspace(request, timeout=CALL_SECONDS)
        _told(answer.workspace, what, as_json)

    session.run(work)


def _told(found: pb.Workspace, what: str, as_json: bool) -> None:
    if as_json:
        session.print_json(found)
    else:
        typer.echo(f"workspace {found.workspace_id} {what}")
