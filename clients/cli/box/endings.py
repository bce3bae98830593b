"""How a command's end becomes the end of this program."""

import typer

from portway.v1 import process_pb2

TIMED_OUT = 124
"""As the command `timeout` says it."""
LOST = 255
"""As ssh says that it does not know."""


def exit_code(end: process_pb2.Exit) -> int:
    """Its own; 124 for one that took too long, 128 + N for one that signal N ended."""
    match end.status:
        case process_pb2.EXIT_STATUS_COMPLETED:
            return end.exit_code
        case process_pb2.EXIT_STATUS_TIMED_OUT:
            typer.echo("portway: the command took too long and was killed; --timeout gives it more", err=True)
            return TIMED_OUT
        case process_pb2.EXIT_STATUS_OUT_OF_MEMORY:
            typer.echo("portway: the command needed more memory than its session has and was killed", err=True)
            return 128 + 9
        case _ if end.HasField("signal"):
            return 128 + end.signal
        case _:
            typer.echo("portway: the end of it was not seen; what became of it is not known", err=True)
            return LOST
