"""`portway box`: commands, shells, files and sessions in the box. Each command has a module in `box/`."""

import typer

from portway.clients.cli.box import copying, exec, processes, sessions, shell, stats
from portway.clients.cli.box_image_command import image

box = typer.Typer(
    no_args_is_help=True,
    help="Commands, shells, files and sessions in sandboxes. With server options (--listen …) it starts the box alone.",
)


def register(app: typer.Typer) -> None:
    for part in (shell, exec, processes, copying, sessions, stats):
        part.register(box)
    box.add_typer(image, name="image")
    app.add_typer(box, name="box")
