"""`portway plugin`: list."""

from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.v1 import runtime_pb2

plugin = typer.Typer(no_args_is_help=True, help="Look at plugins.")


def register(app: typer.Typer) -> None:
    app.add_typer(plugin, name="plugin")


@plugin.callback()
def _group() -> None:
    """Look at plugins."""


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
                ", ".join(f"{c.kind} {c.name}" for c in p.components),
            )
            for p in page.plugins
        ]
        session.print_table(("plugin", "version", "state", "components"), rows)
        problems = [*page.problems, *(problem for p in page.plugins for problem in p.problems)]
        for problem in problems:
            kind = "warning" if problem.warning else "cannot be used"
            typer.echo(f"{kind}: {problem.plugin}: {problem.location}: {problem.message}", err=True)

    session.run(work)
