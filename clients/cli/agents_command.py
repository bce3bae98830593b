"""`portway agents`: list, show."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import agent_pb2, binding_pb2

agents = typer.Typer(no_args_is_help=True, help="Look at agents.")
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(agents, name="agents")


@agents.command("list")
def list_agents(as_json: Json = False) -> None:
    """All agents."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            found = await host.list_agents()
        if as_json:
            session.print_json(found)
            return
        rows = [
            (
                a.agent_id,
                a.name,
                a.runner_id,
                "off" if a.disabled else "on",
                session.name_of(binding_pb2.ManagedBy.DESCRIPTOR, a.managed_by),
            )
            for a in found
        ]
        session.print_table(("agent", "name", "runner", "", "kept by"), rows)

    session.run(work)


@agents.command()
def show(agent_id: Annotated[str, typer.Argument(help="Agent id.")], as_json: Json = False) -> None:
    """One agent with its configuration; secrets are masked."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.agents.GetAgent(agent_pb2.GetAgentRequest(agent_id=agent_id), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer.agent)
            return
        session.console.print(str(answer.agent), markup=False)

    session.run(work)
