"""`portway box stats`: what sessions use, refreshed; and `portway box token`."""

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from portway.clients.cli import session
from portway.clients.cli.box.reaching import Json, Workspace, issue, reached
from portway.clients.endpoint import Endpoint
from portway.rpc.status import errors_by_meaning
from portway.v1 import box_pb2, options_pb2, session_pb2

_COLUMNS = ("session", "memory", "peak", "disk", "processes", "cpu", "commands", "running")


def register(box: typer.Typer) -> None:
    box.command()(stats)
    box.command()(token)


def stats(
    interval: Annotated[float, typer.Option(min=1.0, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """What the sessions use, those that were used last first; until Ctrl-C."""
    pause = Duration()
    pause.FromMilliseconds(round(interval * 1000))

    async def work(endpoint: Endpoint) -> None:
        async with reached(endpoint, workspace) as found:
            request = box_pb2.WatchStatsRequest(interval=pause, with_sessions=True, workspace_id=found.workspace_id)
            with errors_by_meaning(), Live(console=session.console, auto_refresh=False, transient=False) as live:
                async for figures in found.box.service.WatchStats(request):
                    if as_json:
                        session.print_json_line(figures)
                    else:
                        live.update(_table(figures), refresh=True)
                    if once:
                        return

    session.run(work)


def _table(figures: box_pb2.WatchStatsResponse) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = (
        f"{figures.session_count} sessions, {figures.running_count} running, {figures.command_count} commands so far; "
        f"the server has {_bytes(figures.memory_bytes)}"
    )
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True)
    for one in figures.sessions:
        table.add_row(*(escape(cell) for cell in _row(one)))
    if figures.omitted_session_count:
        table.caption = f"and {figures.omitted_session_count} more"
    return table


def _row(one: box_pb2.SessionFigures) -> tuple[str, ...]:
    usage = one.usage
    return (
        one.session_id,
        _known(usage, "memory_bytes"),
        _known(usage, "peak_memory_bytes"),
        _known(usage, "disk_bytes"),
        str(usage.pids) if usage.HasField("pids") else "-",
        f"{usage.cpu_time.ToMilliseconds() / 1000:.1f} s" if usage.HasField("cpu_time") else "-",
        str(usage.command_count),
        str(usage.running_count),
    )


def _known(usage: session_pb2.SessionUsage, name: str) -> str:
    return _bytes(getattr(usage, name)) if usage.HasField(name) else "-"  # type: ignore[arg-type]


def _bytes(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def token(
    role: Annotated[str, typer.Option(help="operator or viewer; empty: as much as you have.")] = "",
    minutes: Annotated[int, typer.Option(min=1, max=15, help="How long it works.")] = 5,
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """A token for the box itself, signed by the host: for one workspace, and for minutes. It is printed once."""

    async def work(endpoint: Endpoint) -> None:
        number = session.value_of(options_pb2.Role.DESCRIPTOR, role, "role") if role else 0
        answer = await issue(endpoint, workspace, number, minutes * 60)
        if as_json:
            session.print_json(answer)
            return
        typer.echo(answer.secret)
        typer.echo(
            f"token {answer.token_id} for workspace {answer.workspace_id}, until {session.when(answer.expire_time)}",
            err=True,
        )

    session.run(work)
