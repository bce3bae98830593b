"""`portway listener`: which event listeners of plugins observe the workspace."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import listener_pb2 as pb

listener = typer.Typer(no_args_is_help=True, help="Event listeners of plugins: they observe, and answer nothing.")
Json = Annotated[bool, session.JSON_OPTION]
Name = Annotated[str, typer.Argument(help="author/name/listener, as in `portway listener list`.")]
Start = Annotated[str, typer.Option("--from", help="resume (where it was, else now), now, or oldest.")]


def register(app: typer.Typer) -> None:
    app.add_typer(listener, name="listener")


@listener.command("list")
def list_listeners(as_json: Json = False) -> None:
    """Listeners that plugins bring, whether they observe this workspace, and how far they are; the first 200."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.listeners.ListListeners(pb.ListListenersRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.listeners))
            return
        rows = [
            (
                one.listener_id,
                "yes" if one.enabled else "no",
                str(one.delivered_count),
                str(one.lag),
                str(one.missed_count),
                one.trouble,
            )
            for one in page.listeners
        ]
        session.print_table(("listener", "enabled", "seen", "behind", "missed", "trouble"), rows)

    session.run(work)


@listener.command()
def enable(listener_id: Name, start: Start = "resume", as_json: Json = False) -> None:
    """Let it observe this workspace."""

    async def work(endpoint: Endpoint) -> None:
        number = session.value_of(pb.ListenerStart.DESCRIPTOR, start, "start")
        request = pb.EnableListenerRequest(listener_id=listener_id, start=pb.ListenerStart.ValueType(number))
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.listeners.EnableListener(request, timeout=CALL_SECONDS)
        _told(answer.listener, as_json)

    session.run(work)


@listener.command()
def disable(listener_id: Name, as_json: Json = False) -> None:
    """Let it observe this workspace no more; it can go on later where it was."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = pb.DisableListenerRequest(listener_id=listener_id)
                answer = await host.listeners.DisableListener(request, timeout=CALL_SECONDS)
        _told(answer.listener, as_json)

    session.run(work)


def _told(found: pb.Listener, as_json: bool) -> None:
    if as_json:
        session.print_json(found)
    else:
        typer.echo(f"{found.listener_id} {'observes' if found.enabled else 'does not observe'} this workspace")
