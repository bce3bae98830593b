"""`portway switch`: what is stopped at once, and letting it go on."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import workspace_pb2 as pb

switch = typer.Typer(no_args_is_help=True, help="Kill switches: stop an agent, a bot, a model or a tool at once.")
Json = Annotated[bool, session.JSON_OPTION]
Kind = Annotated[str, typer.Argument(help="agent, bot, model or tool.")]
Target = Annotated[str, typer.Argument(help="Its id; `*` for every one of the kind.")]


def register(app: typer.Typer) -> None:
    app.add_typer(switch, name="switch")


@switch.command("list")
def list_switches(as_json: Json = False) -> None:
    """What is stopped, the first 200."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = pb.ListKillSwitchesRequest(page_size=200)
                page = await host.workspaces.ListKillSwitches(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.kill_switches))
            return
        rows = [
            (
                session.name_of(pb.SwitchKind.DESCRIPTOR, one.kind),
                one.target_id,
                session.when(one.update_time),
                one.reason,
            )
            for one in page.kill_switches
        ]
        session.print_table(("kind", "stopped", "since", "why"), rows)

    session.run(work)


@switch.command()
def on(
    kind: Kind,
    target_id: Target,
    reason: Annotated[str, typer.Option(help="Why: those who are refused are told.")] = "",
    as_json: Json = False,
) -> None:
    """Stop it. Runs of a stopped agent are cancelled."""
    _set(kind, target_id, reason, on=True, as_json=as_json)


@switch.command()
def off(kind: Kind, target_id: Target, as_json: Json = False) -> None:
    """Let it go on."""
    _set(kind, target_id, "", on=False, as_json=as_json)


def _set(kind: str, target_id: str, reason: str, *, on: bool, as_json: bool) -> None:
    async def work(endpoint: Endpoint) -> None:
        number = pb.SwitchKind.ValueType(session.value_of(pb.SwitchKind.DESCRIPTOR, kind, "kind"))
        wanted = pb.KillSwitch(kind=number, target_id=target_id, on=on, reason=reason)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = pb.SetKillSwitchRequest(kill_switch=wanted)
                answer = await host.workspaces.SetKillSwitch(request, timeout=CALL_SECONDS)
        if as_json:
            session.print_json(answer.kill_switch)
        else:
            typer.echo(f"{kind} {target_id} {'stopped' if on else 'goes on'}")

    session.run(work)
