"""What every command does around its own work: find the server, run it, turn errors into a line and an exit code."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from portway.clients.box import Box
from portway.clients.endpoint import Endpoint, find_endpoint
from portway.clients.host import Portway
from portway.clients.runtime import Runtime
from portway.rpc.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PortwayError,
    Unavailable,
    WrongState,
)

EXIT_CODES: tuple[tuple[type[PortwayError], int], ...] = (
    (InvalidInput, 2),
    (NotFound, 3),
    (NotAuthenticated, 4),
    (NotPermitted, 4),
    (Unavailable, 5),
    (DeadlineExceeded, 5),
    (PortwayError, 1),
)
"""0 well, 1 other failure, 2 wrong input, 3 not found, 4 not allowed, 5 not reachable; the first row that fits."""

console = Console(highlight=False)
_WIDEST = 10_000
JSON_OPTION = typer.Option("--json", help="Print JSON for programs.")


def run(work: Callable[[Endpoint], Awaitable[None]]) -> None:
    """Do the work with the endpoint that was found; end the process with a code that means something where it fails."""
    try:
        asyncio.run(_work(work))
    except PortwayError as error:
        typer.echo(f"portway: {_told(error)}", err=True)
        raise typer.Exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind))) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


async def _work(work: Callable[[Endpoint], Awaitable[None]]) -> None:
    await work(find_endpoint(os.environ))


def host(endpoint: Endpoint) -> Portway:
    return Portway(endpoint.host, token=endpoint.token, tls=endpoint.tls)


def box(endpoint: Endpoint) -> Box:
    if not endpoint.box:
        raise WrongState("no box: set PORTWAY_BOX, or look at `portway status` for why it does not run")
    return Box(endpoint.box, token=endpoint.token, tls=endpoint.tls)


def runtime(endpoint: Endpoint) -> Runtime:
    if not endpoint.runtime:
        raise WrongState("no plugin runtime: set PORTWAY_RUNTIME, or look at `portway status` for why it does not run")
    return Runtime(endpoint.runtime, token=endpoint.token, tls=endpoint.tls)


def _told(error: PortwayError) -> str:
    lines = [str(error)]
    told = [f"{violation.field}: {violation.description}" for violation in error.fields]
    # An error of one field says the same in its message.
    lines += [f"  {line}" for line in told if line not in lines[0]]
    if isinstance(error, Unavailable):
        lines.append("  is Portway running? `portway up` starts it, `portway status` tells how it is")
    return "\n".join(lines)


def print_json(value: object) -> None:
    """One JSON document on standard output; messages of the contract with their own field names."""
    json.dump(_plain(value), sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line, for streams."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or (isinstance(value, Iterable) and not isinstance(value, str | bytes)):
        return [_plain(item) for item in value]
    return value


def name_of(enum: EnumDescriptor, value: int) -> str:
    """An enum value as people read it: `RUN_STATE_COMPLETED` is `completed`. A number that is not known stays one."""
    known = enum.values_by_number.get(value)
    if known is None:
        return str(value)
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return known.name.removeprefix(prefix).lower().replace("_", " ")


def value_of(enum: EnumDescriptor, name: str, field: str) -> int:
    """The enum value that a person named. Raises `InvalidInput` that lists the names."""
    known = {name_of(enum, number): number for number in enum.values_by_number if number}
    if name not in known:
        raise InvalidInput.field(field, f"must be one of {', '.join(known)}")
    return known[name]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns that are as wide as what they hold: an id that is cut is of no use, so a narrow terminal wraps lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    # On a console without an edge nothing is cut; the terminal wraps lines that are longer than it.
    Console(width=_WIDEST, highlight=False).print(table)


def when(time: Timestamp) -> str:
    """Local time to the second; a dash where there is none."""
    if not time.seconds:
        return "-"
    return datetime.fromtimestamp(time.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
