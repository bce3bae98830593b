"""`portway apply`: make a host what files say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.declarative.applied import Applied, Thing
from portway.clients.declarative.compare import places_of
from portway.clients.declarative.documents import Document, read_documents
from portway.clients.declarative.hosted import HostedKinds
from portway.clients.declarative.plan import Change, Step, carry_out, plan
from portway.clients.endpoint import Endpoint
from portway.rpc.channel import open_channel


def register(app: typer.Typer) -> None:
    app.command()(apply)


def apply(
    files: Annotated[list[Path], typer.Argument(help="YAML files with declarations.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove what an earlier apply made and the files no longer say.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="Where it is noted what apply made (default: beside the first file).")
    ] = None,
) -> None:
    """Make the host what the files say, by its ordinary methods. A second apply changes nothing."""

    async def work(endpoint: Endpoint) -> None:
        documents = read_documents(files)
        wanted = {(document.kind.name, document.id): document for document in documents}
        applied = Applied(state or files[0].with_name(files[0].name + ".applied.json"), endpoint.host)
        gone = [thing for thing in applied.made() if thing not in wanted] if prune else []
        async with open_channel(endpoint.host, token=endpoint.token, tls=endpoint.tls) as channel:
            host = HostedKinds(channel)
            steps = await plan(documents, host, applied, gone)
            if dry_run:
                for step in steps:
                    _show(step)
            else:
                await _carry_out_all(steps, wanted, host, applied)
        _sum_up(steps, len(documents), dry_run)

    session.run(work)


async def _carry_out_all(
    steps: list[Step], wanted: Mapping[Thing, Document], host: HostedKinds, applied: Applied
) -> None:
    changing = {(step.kind.name, step.id) for step in steps}
    for thing, document in wanted.items():
        if thing not in changing:
            applied.note(thing, places_of(document.fields), made=False)
    try:
        for step in steps:
            _show(step)
            await carry_out(step, host, applied)
            thing = (step.kind.name, step.id)
            if step.document is None:
                applied.forget(thing)
            else:
                applied.note(thing, places_of(step.document.fields), made=step.change is Change.CREATE)
    finally:
        # Also of what was done before something was refused.
        applied.save()


def _show(step: Step) -> None:
    typer.echo(f"{step.change} {step.kind.name} {step.id}")
    for line in step.lines:
        typer.echo(f"    {line}")


def _sum_up(steps: list[Step], declared: int, dry_run: bool) -> None:
    counts = {change: sum(1 for step in steps if step.change is change) for change in Change}
    unchanged = declared - counts[Change.CREATE] - counts[Change.UPDATE]
    would = "would be " if dry_run else ""
    typer.echo(
        f"{would}made {counts[Change.CREATE]}, {would}changed {counts[Change.UPDATE]}, {would}removed "
        f"{counts[Change.DELETE]}, unchanged {unchanged}"
    )
