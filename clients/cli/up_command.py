"""`portway up`: everything in one supervised group of processes."""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from portway.clients.supervisor.layout import Layout, StartError
from portway.clients.supervisor.parts import Settings
from portway.clients.supervisor.supervise import PartFailed, Supervisor
from portway.rpc.configuration import EXIT_CODE, ConfigurationError, check_environment, read_file


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    data: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = Path("data"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the host; 0 picks a free one.")] = 7700,
    web_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 picks a free one.")] = 7780,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ready_file: Annotated[Path | None, typer.Option(help="JSON file that is written when everything serves.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).")] = None,
) -> None:
    """Start host, runtime, box and web chat, and keep them running until Ctrl-C or SIGTERM."""
    try:
        # Mistakes that concern no part in particular are told before anything starts.
        read_file(config)
        check_environment(os.environ)
        settings = Settings(data, port, web_port, config.absolute() if config else None, bind)
        asyncio.run(Supervisor(settings, ready_file, os.environ, _announce).run())
    except ConfigurationError as error:
        _fail(str(error), EXIT_CODE)
    except StartError as error:
        _fail(str(error), 1)
    except PartFailed as error:
        _fail(str(error), EXIT_CODE if error.exit_code == EXIT_CODE else 1)


def _fail(text: str, code: int) -> None:
    typer.echo(f"portway up: {text}", err=True)
    raise typer.Exit(code)


def _announce(layout: Layout) -> None:
    ready = json.loads(layout.ready.read_text(encoding="utf-8"))
    lines = [
        "",
        "Portway is ready.",
        f"  page   {ready.get('web', 'not served')}",
        f"  host   {ready['host']}  (gRPC; admin token in {ready['token_file']})",
        f"  box    {ready.get('box', 'does not run; `portway doctor` tells why')}",
        '  try    portway send "run: echo hi in the sandbox" --wait',
        "",
    ]
    typer.echo("\n".join(lines))
