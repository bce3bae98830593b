"""`portway bindings`: list, create, delete."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import binding_pb2

bindings = typer.Typer(no_args_is_help=True, help="Which agent answers which events where.")
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(bindings, name="bindings")


@bindings.command("list")
def list_bindings(as_json: Json = False) -> None:
    """The first 200 bindings."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.bindings.ListBindings(
                    binding_pb2.ListBindingsRequest(page_size=200), timeout=CALL_SECONDS
                )
        if as_json:
            session.print_json(list(page.bindings))
            return
        rows = [
            (
                b.binding_id,
                session.name_of(binding_pb2.BindingScope.DESCRIPTOR, b.scope),
                b.scope_id or "-",
                b.agent_id,
                "off" if b.disabled else "on",
            )
            for b in page.bindings
        ]
        session.print_table(("binding", "scope", "of", "agent", ""), rows)

    session.run(work)


@bindings.command()
def create(
    agent: Annotated[str, typer.Option(help="Agent that answers.")],
    scope: Annotated[str, typer.Option(help="global, workspace, bot, channel or conversation.")] = "global",
    scope_id: Annotated[str, typer.Option(help="Bot, channel or conversation id.")] = "",
    prefix: Annotated[str, typer.Option(help="Only messages that begin with it.")] = "",
    as_json: Json = False,
) -> None:
    """Make a binding. One that equals another is refused, naming both."""

    async def work(endpoint: Endpoint) -> None:
        binding = binding_pb2.Binding(
            scope=binding_pb2.BindingScope.ValueType(
                session.value_of(binding_pb2.BindingScope.DESCRIPTOR, scope, "scope")
            ),
            scope_id=scope_id,
            agent_id=agent,
            filters=binding_pb2.BindingFilters(prefix=prefix),
        )
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.bindings.CreateBinding(
                    binding_pb2.CreateBindingRequest(binding=binding), timeout=CALL_SECONDS
                )
        if as_json:
            session.print_json(answer.binding)
            return
        typer.echo(f"binding {answer.binding.binding_id}: {scope} {scope_id or ''} is answered by {agent}")

    session.run(work)


@bindings.command()
def delete(binding_id: Annotated[str, typer.Argument(help="Binding id.")]) -> None:
    """Remove a binding."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.bindings.DeleteBinding(
                    binding_pb2.DeleteBindingRequest(binding_id=binding_id), timeout=CALL_SECONDS
                )
        typer.echo(f"binding {binding_id} removed")

    session.run(work)
