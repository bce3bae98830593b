"""`portway mcp`: list, show, add, test, remove."""

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.errors import Reason, Unavailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import binding_pb2
from portway.v1 import tool_pb2 as pb

mcp = typer.Typer(no_args_is_help=True, help="MCP servers whose tools agents may be given.")
Json = Annotated[bool, session.JSON_OPTION]
ServerId = Annotated[str, typer.Argument(help="Server id.")]

# Connecting anew has 20 s for the handshake and 30 s for the list of tools.
TEST_SECONDS = 90.0


def register(app: typer.Typer) -> None:
    app.add_typer(mcp, name="mcp")


@mcp.command("list")
def list_servers(as_json: Json = False) -> None:
    """Every server and how the connection to it is."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                # A workspace has at most 100.
                page = await host.tools.ListMcpServers(pb.ListMcpServersRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.mcp_servers))
            return
        session.print_table(("server", "state", "tools", "place", "kept by"), [_row(one) for one in page.mcp_servers])

    session.run(work)


@mcp.command()
def show(server_id: ServerId) -> None:
    """One server, as JSON; its secrets are masks."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found = await host.tools.GetMcpServer(pb.GetMcpServerRequest(server_id=server_id), timeout=CALL_SECONDS)
        session.print_json(found.mcp_server)

    session.run(work)


@mcp.command()
def add(
    server_id: ServerId,
    command: Annotated[
        list[str] | None, typer.Argument(help="A program in the box and its arguments, after --.")
    ] = None,
    url: Annotated[str, typer.Option(help="Address of a server over HTTP.")] = "",
    sse: Annotated[bool, typer.Option("--sse", help="It speaks the older HTTP with SSE.")] = False,
    header_env: Annotated[
        list[str] | None, typer.Option("--header-env", help="HEADER=VARIABLE: the variable holds the value.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the program; no secrets.")] = None,
) -> None:
    """Add a server. Secrets are never arguments, which others on the machine could see."""
    server = pb.McpServer(
        server_id=server_id,
        url=url,
        command=command or [],
        headers={name: _value_of(variable) for name, variable in _pairs(header_env or [], "--header-env")},
        env=dict(_pairs(env or [], "--env")),
    )
    if sse:
        server.transport = pb.MCP_TRANSPORT_SSE

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.tools.CreateMcpServer(pb.CreateMcpServerRequest(mcp_server=server), timeout=CALL_SECONDS)
        typer.echo(f"MCP server {server_id} added; `portway mcp test {server_id}` connects to it")

    session.run(work)


@mcp.command()
def test(server_id: ServerId) -> None:
    """Connect anew and list its tools; ends with 1 where it fails."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            request = pb.RefreshMcpServerRequest(server_id=server_id)
            try:
                with errors_by_meaning():
                    found = await host.tools.RefreshMcpServer(request, timeout=TEST_SECONDS)
            except Unavailable as error:
                if error.reason != Reason.TOOL_UNAVAILABLE:
                    raise
                # The host answers; it is the server that does not.
                typer.echo(error.message, err=True)
                raise typer.Exit(1) from None
        for one in found.tools:
            typer.echo(one.name)
        for problem in found.mcp_server.problems:
            typer.echo(f"left out: {problem}", err=True)

    session.run(work)


@mcp.command()
def remove(server_id: ServerId) -> None:
    """Remove a server that no agent names."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.tools.DeleteMcpServer(pb.DeleteMcpServerRequest(server_id=server_id), timeout=CALL_SECONDS)
        typer.echo(f"MCP server {server_id} removed")

    session.run(work)


def _pairs(written: Sequence[str], option: str) -> list[tuple[str, str]]:
    found = []
    for one in written:
        name, equals, value = one.partition("=")
        if not equals or not name:
            typer.echo(f"portway: {option} is NAME=VALUE, and {name!r} is not", err=True)
            raise typer.Exit(2)
        found.append((name, value))
    return found


def _value_of(variable: str) -> str:
    found = os.environ.get(variable, "")
    if not found:
        typer.echo(f"portway: the variable {variable} is not set", err=True)
        raise typer.Exit(2)
    return found


def _row(one: pb.McpServer) -> tuple[str, ...]:
    state = f"{one.state}: {one.reason}" if one.reason else one.state
    place = one.url or " ".join(one.command)
    managed = session.name_of(binding_pb2.ManagedBy.DESCRIPTOR, one.managed_by)
    return (one.server_id, state, str(one.tool_count), place, managed)
