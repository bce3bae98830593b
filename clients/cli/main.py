"""The entry of `portway`. Commands are imported when they are used: `portway up` must not wait for gRPC to load."""

import importlib
import sys

import click
import typer
from typer.core import TyperGroup

COMMANDS = {
    "up": "Start host, runtime, box and web chat, and keep them running.",
    "host": "Start the host alone.",
    "runtime": "Start the plugin runtime alone.",
    "box": "Run commands in sandbox sessions, or start the box server alone.",
}
"""Names with the line that `portway --help` shows; the module of each is `portway.clients.cli.<name>_command`."""


class LazyCommands(TyperGroup):
    """Finds a command by name and imports only its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"portway.clients.cli.{cmd_name}_command")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.short_help = COMMANDS[cmd_name]
        return command


app = typer.Typer(
    name="portway",
    cls=LazyCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Portway connects chat platforms to agents that run as plugins, in sandboxes, with every step on disk.",
)


@app.callback()
def portway() -> None:
    """Portway connects chat platforms to agents that run as plugins, in sandboxes, with every step on disk."""


def main() -> None:
    app(prog_name="portway", args=sys.argv[1:])
