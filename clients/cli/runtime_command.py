"""`portway runtime`: the plugin runtime alone, in this process."""

import os
import sys

import typer


def register(app: typer.Typer) -> None:
    passing_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(add_help_option=False, context_settings=passing_on)(runtime)


def runtime(context: typer.Context) -> None:
    """Start the plugin runtime alone; `portway runtime --help` lists its own options."""
    os.execv(sys.executable, [sys.executable, "-m", "portway.runtime", *context.args])
