"""`portway plugin`: list, logs, reload; install and what follows in `plugin_deciding`; for authors `plugin_kit`."""

from collections.abc import Iterable
from typing import Annotated

import typer

from portway.clients.cli import plugin_deciding, plugin_kit, session
from portway.clients.endpoint import Endpoint
from portway.v1 import runtime_pb2

plugin = typer.Typer(no_args_is_help=True, help="Plugins: look at them, install them, decide about them, write them.")


def register(app: typer.Typer) -> None:
    plugin_deciding.register(plugin)
    plugin_kit.register(plugin)
    app.add_typer(plugin, name="plugin")


@plugin.callback()
def _group() -> None:
    """Plugins: look at them, install them, decide about them, write them."""


@plugin.command("list")
def list_plugins(as_json: Annotated[bool, session.JSON_OPTION] = False) -> None:
    """The installed plugins, and what cannot be used and why."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            page = await runtime.list_plugins()
        if as_json:
            session.print_json(page)
            return
        rows = [
            (
                p.plugin_id,
                p.version,
                session.name_of(runtime_pb2.PluginState.DESCRIPTOR, p.state),
                session.name_of(runtime_pb2.PluginSource.DESCRIPTOR, p.source),
                ", ".join(f"{c.kind} {c.name}" for c in p.components),
            )
            for p in page.plugins
        ]
        session.print_table(("plugin", "version", "state", "source", "components"), rows)
        _tell_problems([*page.problems, *(problem for p in page.plugins for problem in p.problems)])

    session.run(work)


@plugin.command("logs")
def logs(
    plugin_id: Annotated[str, typer.Argument(metavar="PLUGIN", help="author/name")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=2000, help="How many old lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
) -> None:
    """What a plugin printed, each line with the run that printed it."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            async for line in runtime.plugin_log(plugin_id, lines=lines, follow=follow):
                if line.dropped_count:
                    typer.echo(f"({line.dropped_count} lines were not kept)", err=True)
                run = f"{line.run_id}  " if line.run_id else ""
                typer.echo(f"{run}{line.line}", err=line.stream == "stderr")

    session.run(work)


@plugin.command("reload")
def reload() -> None:
    """Look through the plugin folders again; what changed gets a new process, runs under way finish in the old one."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            answer = await runtime.reload_plugins()
        typer.echo(f"{len(answer.plugins)} plugins")
        _tell_problems(answer.problems)

    session.run(work)


def _tell_problems(problems: Iterable[runtime_pb2.ComponentProblem]) -> None:
    for problem in problems:
        kind = "warning" if problem.warning else "cannot be used"
        typer.echo(f"{kind}: {problem.plugin}: {problem.location}: {problem.message}", err=True)
