"""`portway tool`: list, show."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import tool_pb2 as pb

tool = typer.Typer(no_args_is_help=True, help="Tools that agents may be given, and why one cannot be used.")
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(tool, name="tool")


@tool.command("list")
def list_tools(
    kind: Annotated[str, typer.Option(help="native, plugin, mcp or skill; all if left out.")] = "",
    as_json: Json = False,
) -> None:
    """Every tool."""

    async def work(endpoint: Endpoint) -> None:
        wanted = pb.ToolKind.ValueType(session.value_of(pb.ToolKind.DESCRIPTOR, kind, "kind") if kind else 0)
        found: list[pb.Tool] = []
        token = ""
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                while True:
                    request = pb.ListToolsRequest(kind=wanted, page_size=200, page_token=token)
                    page = await host.tools.ListTools(request, timeout=CALL_SECONDS)
                    found += page.tools
                    token = page.next_page_token
                    if not token:
                        break
        if as_json:
            session.print_json(found)
            return
        session.print_table(("tool", "class", "can be used"), [_row(one) for one in found])

    session.run(work)


@tool.command()
def show(name: Annotated[str, typer.Argument(help="Name of the tool.")]) -> None:
    """One tool with its parameters, as JSON."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found = await host.tools.GetTool(pb.GetToolRequest(name=name), timeout=CALL_SECONDS)
        session.print_json(found.tool)

    session.run(work)


def _row(one: pb.Tool) -> tuple[str, ...]:
    usable = "yes" if one.available else f"no: {one.reason}"
    return (one.name, session.name_of(pb.IdempotencyClass.DESCRIPTOR, one.idempotency), usable)
