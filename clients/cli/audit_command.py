"""`portway audit`: who did or tried what, and whether it was allowed."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import audit_pb2 as pb

audit = typer.Typer(no_args_is_help=True, help="Who did or tried what, and whether it was allowed.")
Json = Annotated[bool, session.JSON_OPTION]
Action = Annotated[str, typer.Option(help="Only this action; `token.*` for all of a kind.")]
Actor = Annotated[str, typer.Option(help="Only of this token, run or subject.")]
Run = Annotated[str, typer.Option(help="Only of this run.")]
Refused = Annotated[bool, typer.Option("--refused", help="Only what was refused.")]


def register(app: typer.Typer) -> None:
    app.add_typer(audit, name="audit")


@audit.command("list")
def list_entries(
    action: Action = "",
    actor: Actor = "",
    run: Run = "",
    refused: Refused = False,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    as_json: Json = False,
) -> None:
    """The newest entries first."""

    async def work(endpoint: Endpoint) -> None:
        request = pb.ListAuditEntriesRequest(
            action=action, actor=actor, run_id=run, refused_only=refused, page_size=limit
        )
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.audit.ListAuditEntries(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.audit_entries))
            return
        session.print_table(("time", "who", "action", "what", "allowed"), [_row(one) for one in page.audit_entries])

    session.run(work)


@audit.command()
def watch(
    action: Action = "",
    actor: Actor = "",
    run: Run = "",
    refused: Refused = False,
    after: Annotated[str, typer.Option(help="Cursor of the last entry that was seen.")] = "",
) -> None:
    """Every entry as it is written, one JSON document a line, until Ctrl-C."""

    async def work(endpoint: Endpoint) -> None:
        request = pb.WatchAuditRequest(action=action, actor=actor, run_id=run, refused_only=refused, after_cursor=after)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                async for response in host.audit.WatchAudit(request):
                    for entry in response.entries:
                        session.print_json_line(entry)

    session.run(work)


def _row(entry: pb.AuditEntry) -> tuple[str, str, str, str, str]:
    allowed = "yes" if entry.allowed else f"no: {entry.reason}"
    return session.when(entry.time), entry.actor or entry.peer, entry.action, entry.resource, allowed
