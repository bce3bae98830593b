"""`portway user`: list, show, create, disable, enable, delete."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import options_pb2
from portway.v1 import workspace_pb2 as pb

user = typer.Typer(no_args_is_help=True, help="People of a workspace, and what they may do.")
Json = Annotated[bool, session.JSON_OPTION]
Id = Annotated[str, typer.Argument(help="User id.")]


def register(app: typer.Typer) -> None:
    app.add_typer(user, name="user")


@user.command("list")
def list_users(as_json: Json = False) -> None:
    """The first 200 users."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.workspaces.ListUsers(pb.ListUsersRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.users))
            return
        rows = [
            (one.user_id, one.name, _role(one.role), "off" if one.disabled else "on", ", ".join(one.actor_ids))
            for one in page.users
        ]
        session.print_table(("user", "name", "role", "state", "accounts"), rows)

    session.run(work)


@user.command()
def show(user_id: Id) -> None:
    """Everything of one user, as JSON."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.workspaces.GetUser(pb.GetUserRequest(user_id=user_id), timeout=CALL_SECONDS)
        session.print_json(answer.user)

    session.run(work)


@user.command()
def create(
    user_id: Id,
    name: Annotated[str, typer.Option(help="What people call them; empty: the id.")] = "",
    role: Annotated[str, typer.Option(help="admin, operator, viewer or member.")] = "member",
    account: Annotated[list[str] | None, typer.Option(help="An account of theirs; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Make a user. `portway tokens create NAME --user ID` makes a token of theirs."""

    async def work(endpoint: Endpoint) -> None:
        number = options_pb2.Role.ValueType(session.value_of(options_pb2.Role.DESCRIPTOR, role, "role"))
        wanted = pb.User(user_id=user_id, name=name or user_id, role=number, actor_ids=account or [])
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.workspaces.CreateUser(pb.CreateUserRequest(user=wanted), timeout=CALL_SECONDS)
        _told(answer.user, "made", as_json)

    session.run(work)


@user.command()
def disable(user_id: Id, as_json: Json = False) -> None:
    """Switch them off: their tokens are refused and their streams end."""
    _switch(user_id, disabled=True, as_json=as_json)


@user.command()
def enable(user_id: Id, as_json: Json = False) -> None:
    """Switch them on again."""
    _switch(user_id, disabled=False, as_json=as_json)


@user.command()
def delete(user_id: Id) -> None:
    """Remove a user; their tokens are dead. What they said stays: `portway erase user` erases that."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.workspaces.DeleteUser(pb.DeleteUserRequest(user_id=user_id), timeout=CALL_SECONDS)
        typer.echo(f"user {user_id} removed")

    session.run(work)


def _switch(user_id: str, *, disabled: bool, as_json: bool) -> None:
    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found = (await host.workspaces.GetUser(pb.GetUserRequest(user_id=user_id), timeout=CALL_SECONDS)).user
                found.disabled = disabled
                answer = await host.workspaces.UpdateUser(pb.UpdateUserRequest(user=found), timeout=CALL_SECONDS)
        _told(answer.user, "off" if disabled else "on", as_json)

    session.run(work)


def _told(found: pb.User, what: str, as_json: bool) -> None:
    if as_json:
        session.print_json(found)
    else:
        typer.echo(f"user {found.user_id} {what}")


def _role(number: int) -> str:
    return session.name_of(options_pb2.Role.DESCRIPTOR, number)
