"""`portway db`: the host's data, on the host's own machine."""

import os
import sys

import typer


def register(app: typer.Typer) -> None:
    passing_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("db", add_help_option=False, context_settings=passing_on)(database)


def database(context: typer.Context) -> None:
    """Size, check, vacuum, backup, restore, export and import; `portway db --help` lists them."""
    os.execv(sys.executable, [sys.executable, "-m", "portway.server.archive", *context.args])
