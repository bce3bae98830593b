"""`portway runs`: list, show, watch, cancel, explain."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.printer import RunPrinter
from portway.clients.endpoint import Endpoint
from portway.clients.run_view import RunView
from portway.v1 import run_pb2

runs = typer.Typer(no_args_is_help=True, help="Look at runs and stop them.")

RunId = Annotated[str, typer.Argument(help="Run id.")]
Json = Annotated[bool, session.JSON_OPTION]


def register(app: typer.Typer) -> None:
    app.add_typer(runs, name="runs")


@runs.command("list")
def list_runs(
    conversation: Annotated[str, typer.Option(help="Only of this conversation.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: Json = False,
) -> None:
    """The newest runs."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            found = await host.runs.list(conversation_id=conversation, limit=limit)
        if as_json:
            session.print_json(found)
            return
        rows = [
            (
                r.run_id,
                session.name_of(run_pb2.RunState.DESCRIPTOR, r.state),
                r.agent_id,
                r.conversation_id,
                session.when(r.create_time),
            )
            for r in found
        ]
        session.print_table(("run", "state", "agent", "conversation", "since"), rows)

    session.run(work)


@runs.command()
def show(run_id: RunId, as_json: Json = False) -> None:
    """One run."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            run = await host.runs.get(run_id)
        if as_json:
            session.print_json(run)
            return
        rows = [
            ("state", session.name_of(run_pb2.RunState.DESCRIPTOR, run.state)),
            ("agent", run.agent_id),
            ("runner", run.runner_id),
            ("conversation", run.conversation_id),
            ("event", run.event_id),
            ("attempt", str(run.attempt)),
            ("ledger", f"{run.last_sequence} events"),
            ("began", session.when(run.start_time)),
            ("ended", session.when(run.end_time)),
        ]
        if run.HasField("error"):
            rows.append(("error", f"{run.error.code}: {run.error.message}"))
        if run.HasField("usage"):
            rows.append(("tokens", f"{run.usage.input_tokens} in, {run.usage.output_tokens} out"))
        session.print_table(("", run.run_id), rows)

    session.run(work)


@runs.command()
def watch(
    run_id: RunId,
    after: Annotated[int, typer.Option(min=0, help="Only events after this sequence.")] = 0,
    as_json: Json = False,
) -> None:
    """Replay a run and follow it to its end. With --json one event on each line."""

    async def work(endpoint: Endpoint) -> None:
        view, printer = RunView(), RunPrinter()
        async with session.host(endpoint) as host:
            async for event in host.runs.watch(run_id, after_sequence=after, committed_only=as_json):
                if as_json:
                    session.print_json_line(event)
                    continue
                for change in view.apply(event):
                    printer.show(change)

    session.run(work)


@runs.command()
def cancel(
    run_id: RunId, reason: Annotated[str, typer.Option(help="Why, for people.")] = "", as_json: Json = False
) -> None:
    """Stop a run, and tell what is confirmed stopped."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            answer = await host.runs.cancel(run_id, reason)
        if as_json:
            session.print_json(answer)
            return
        _print_tree(answer.receipt.root, 0)
        typer.echo("everything stopped" if answer.receipt.complete else "not everything is confirmed stopped")

    session.run(work)


def _print_tree(node: run_pb2.StopNode, depth: int) -> None:
    state = session.name_of(run_pb2.StopState.DESCRIPTOR, node.state)
    typer.echo(f"{'  ' * depth}{node.kind} {node.id}: {state}")
    for child in node.children:
        _print_tree(child, depth + 1)


@runs.command()
def explain(run_id: RunId, as_json: Json = False) -> None:
    """Why a run could do what it did, and why it ended."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            answer = await host.runs.explain(run_id)
        if as_json:
            session.print_json(answer)
            return
        typer.echo(answer.conclusion)
        for layer in answer.layers:
            taken = "; ".join(layer.removed) or "nothing taken away"
            typer.echo(f"  {layer.name}: {taken}")
        rows = [(session.when(s.time), s.stage, "ok" if s.ok else "not ok", s.summary) for s in answer.steps]
        session.print_table(("time", "stage", "", "what"), rows)

    session.run(work)
