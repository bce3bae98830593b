"""The entry of `portway`. Only the command that is used is imported: `portway up` must not wait for gRPC to load."""

import importlib
import sys
from collections.abc import Sequence

import typer

from portway.clients.cli.box_server import start_server, starts_server

COMMANDS = (
    "up",
    "chat",
    "send",
    "runs",
    "approvals",
    "history",
    "events",
    "agents",
    "model",
    "bindings",
    "schedule",
    "skill",
    "tool",
    "mcp",
    "box",
    "plugin",
    "listener",
    "tokens",
    "user",
    "workspace",
    "switch",
    "erase",
    "audit",
    "status",
    "doctor",
    "db",
    "apply",
    "export",
    "host",
    "runtime",
)
"""In the order of `portway --help`. `portway.clients.cli.<name>_command` has `register(app)`."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the command that the arguments name; with all of them where they name none."""
    app = typer.Typer(
        name="portway",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Portway connects chat platforms to agents that run as plugins, in sandboxes, with every step on disk.",
    )
    # A callback makes a lone command a sub-command all the same.
    app.callback()(_portway)
    named = arguments[0] if arguments else ""
    for name in [named] if named in COMMANDS else COMMANDS:
        importlib.import_module(f"portway.clients.cli.{name}_command").register(app)
    return app


def _portway() -> None:
    """Portway connects chat platforms to agents that run as plugins, in sandboxes, with every step on disk."""


def main() -> None:
    arguments = sys.argv[1:]
    if starts_server(arguments):
        start_server(arguments)
    build(arguments)(prog_name="portway", args=arguments)


if __name__ == "__main__":
    main()
