"""`portway status`: how the installation is."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.v1 import status_pb2

# What works in part works: a box without root's limits is no failure of an installation that was made so.
_WORKS = (status_pb2.PART_STATE_OK, status_pb2.PART_STATE_DEGRADED, status_pb2.PART_STATE_DISABLED)


def register(app: typer.Typer) -> None:
    app.command()(status)


def status(as_json: Annotated[bool, session.JSON_OPTION] = False) -> None:
    """Every part, how it is, and why where something does not work. Exit code 1 where a part does not work."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            answer = await host.status()
        if as_json:
            session.print_json(answer)
        else:
            _print(answer)
        if any(part.state not in _WORKS for part in answer.parts):
            raise typer.Exit(1)

    session.run(work)


def _print(answer: status_pb2.GetStatusResponse) -> None:
    typer.echo(f"Portway {answer.version} on {answer.host}, since {session.when(answer.start_time)}")
    rows = [
        (
            part.name,
            session.name_of(status_pb2.PartState.DESCRIPTOR, part.state),
            part.address,
            part.reason,
        )
        for part in answer.parts
    ]
    session.print_table(("part", "state", "address", "why"), rows)
    typer.echo(
        f"runs: {answer.active_run_count} active, {answer.queued_run_count} waiting; "
        f"deliveries: {answer.pending_delivery_count} waiting, {answer.stuck_delivery_count} need a person"
    )
