"""`portway host`: the host alone, in this process."""

import os
import sys

import typer


def register(app: typer.Typer) -> None:
    passing_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(add_help_option=False, context_settings=passing_on)(host)


def host(context: typer.Context) -> None:
    """Start the host alone; `portway host --help` lists its own options."""
    os.execv(sys.executable, [sys.executable, "-m", "portway.server", *context.args])
