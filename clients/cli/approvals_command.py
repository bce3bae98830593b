"""`portway approvals`: what waits for a person, and deciding it."""

import json
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.rpc.errors import NotFound
from portway.rpc.status import errors_by_meaning
from portway.v1 import run_agent_pb2, run_pb2

CALL_SECONDS = 30.0

approvals = typer.Typer(no_args_is_help=True, help="What runs wait for a person to allow.")

ApprovalId = Annotated[str, typer.Argument(help="Approval id.")]
Note = Annotated[str, typer.Option(help="Words for the run.")]
Digest = Annotated[str, typer.Option(help="Only if it is still for this digest; empty: what is shown now.")]
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(approvals, name="approvals")


@approvals.command("list")
def list_approvals(
    run: Annotated[str, typer.Option(help="Only of this run.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: Json = False,
) -> None:
    """What waits, the newest first, with exactly what is to be done."""

    async def work(endpoint: Endpoint) -> None:
        request = run_pb2.ListApprovalsRequest(run_id=run, pending_only=not everything, page_size=limit)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.runs.stub.ListApprovals(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(answer.approvals))
            return
        rows = [
            (
                one.approval_id,
                session.name_of(run_agent_pb2.ApprovalState.DESCRIPTOR, one.state),
                session.when(one.expire_time),
                one.run_id,
                _what(one),
            )
            for one in answer.approvals
        ]
        session.print_table(("approval", "state", "until", "run", "what"), rows)

    session.run(work)


@approvals.command()
def approve(approval_id: ApprovalId, note: Note = "", digest: Digest = "", as_json: Json = False) -> None:
    """Allow it. The run goes on."""
    _decide(approval_id, approve=True, note=note, digest=digest, as_json=as_json)


@approvals.command()
def deny(approval_id: ApprovalId, note: Note = "", digest: Digest = "", as_json: Json = False) -> None:
    """Refuse it. The run is told, and goes on without it."""
    _decide(approval_id, approve=False, note=note, digest=digest, as_json=as_json)


def _decide(approval_id: str, *, approve: bool, note: str, digest: str, as_json: bool) -> None:
    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            stub, token, shown = host.runs.stub, "", digest
            while not shown:
                request = run_pb2.ListApprovalsRequest(page_size=200, page_token=token)
                with errors_by_meaning():
                    page = await stub.ListApprovals(request, timeout=CALL_SECONDS)
                shown = next((one.digest for one in page.approvals if one.approval_id == approval_id), "")
                token = page.next_page_token
                if not shown and not token:
                    raise NotFound.of("approval", approval_id)
            decision = run_pb2.DecideApprovalRequest(approval_id=approval_id, approve=approve, digest=shown, note=note)
            with errors_by_meaning():
                answer = await stub.DecideApproval(decision, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer.approval)
            return
        state = session.name_of(run_agent_pb2.ApprovalState.DESCRIPTOR, answer.approval.state)
        typer.echo(f"{answer.approval.approval_id} {state}: {_what(answer.approval)}")

    session.run(work)


def _what(approval: run_pb2.Approval) -> str:
    """The command, or the call with its arguments: whole, because it is what is decided on."""
    details = MessageToDict(approval.details)
    arguments = details.get("arguments", {})
    if isinstance(arguments, dict) and isinstance(arguments.get("command"), str):
        return str(arguments["command"])
    return f"{details.get('name', approval.title)} {json.dumps(arguments, ensure_ascii=False)}"
