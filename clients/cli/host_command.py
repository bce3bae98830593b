"""`portway host`: the host alone, in this process."""

import os
import sys

import typer

app = typer.Typer(pretty_exceptions_enable=False)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def host(context: typer.Context) -> None:
    """Start the host alone; `portway host --help` lists its own options."""
    os.execv(sys.executable, [sys.executable, "-m", "portway.server", *context.args])
