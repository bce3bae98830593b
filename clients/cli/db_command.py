"""`portway db`: the host's data, on its own machine or over the wire."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import operations_pb2

database = typer.Typer(no_args_is_help=True, help="The host's data: size, check, backup, restore, retention, keys.")
Json = Annotated[bool, session.JSON_OPTION]
# A pass over everything takes as long as there is much to remove.
_PASS_SECONDS = 3600.0

_LOCAL = {
    "size": "Bytes and rows per table, blobs, backups. On the host's machine; the host may run.",
    "check": "Look for damage: database, files, keys. On the host's machine; the host may run.",
    "vacuum": "Give unused space back to the disk. On the host's machine, with the host stopped.",
    "backup": "Write one archive of everything, of one moment. On the host's machine; the host may run.",
    "restore": "Put a backup in its place. On the host's machine, with the host stopped.",
    "export": "Write a portable archive, for SQLite and PostgreSQL. On the host's machine; the host may run.",
    "import": "Read an export into an empty database. On the host's machine, with the host stopped.",
}


def register(app: typer.Typer) -> None:
    for name, told in _LOCAL.items():
        passing_on = {"allow_extra_args": True, "ignore_unknown_options": True}
        database.command(name, help=told, add_help_option=False, context_settings=passing_on)(_local(name))
    app.add_typer(database, name="db")


def _local(name: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        os.execv(sys.executable, [sys.executable, "-m", "portway.server.archive", name, *context.args])

    return run


@database.command()
def usage(as_json: Json = False) -> None:
    """What a running host keeps, and what its reaper did."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = operations_pb2.GetStorageUsageRequest()
                answer = await host.operations.GetStorageUsage(request, timeout=_PASS_SECONDS)
        if as_json:
            session.print_json(answer)
            return
        rows = [(one.table, str(one.row_count), _size(one.size_bytes)) for one in answer.tables]
        session.print_table(("table", "rows", "size"), rows)
        typer.echo(
            f"\ndatabase {_size(answer.database_bytes)}, of it unused {_size(answer.unused_bytes)}; log "
            f"{_size(answer.log_bytes)}; files {_size(answer.blob_bytes)} in {answer.blob_count}; free on the disk "
            f"{_size(answer.free_disk_bytes)}\n"
        )
        kinds = [
            (
                one.kind,
                f"{one.keep.seconds / 86400:g} days" if one.HasField("keep") else "for ever",
                str(one.removed_count),
                session.when(one.last_time),
            )
            for one in answer.retention
        ]
        session.print_table(("kind", "kept", "removed", "last"), kinds)
        if answer.problem:
            typer.echo(f"\nthe reaper's last pass failed: {answer.problem}")

    session.run(work)


@database.command()
def retention(
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be given often.")] = None,
    workspace: Annotated[str, typer.Option(help="Only this workspace.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; tell what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Remove now what is older than it is kept."""

    async def work(endpoint: Endpoint) -> None:
        request = operations_pb2.ApplyRetentionRequest(kinds=kind or [], workspace_id=workspace, dry_run=dry_run)
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                answer = await host.operations.ApplyRetention(request, timeout=_PASS_SECONDS)
        if as_json:
            session.print_json(answer)
            return
        rows = [(one.workspace_id, one.kind, str(one.row_count)) for one in answer.removed]
        session.print_table(("workspace", "kind", "would go" if dry_run else "removed"), rows)

    session.run(work)


@database.command()
def encryption(as_json: Json = False) -> None:
    """Which key secrets are encrypted with, and how many still lie under older ones."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = operations_pb2.GetEncryptionRequest()
                answer = await host.operations.GetEncryption(request, timeout=CALL_SECONDS)
        _tell(answer.encryption, as_json)

    session.run(work)


@database.command("rotate-key")
def rotate_key(as_json: Json = False) -> None:
    """Make a new encryption key; secrets are brought under it in the background."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                request = operations_pb2.RotateEncryptionKeyRequest(request_id=new_id("req"))
                answer = await host.operations.RotateEncryptionKey(request, timeout=CALL_SECONDS)
        _tell(answer.encryption, as_json)

    session.run(work)


def _tell(state: operations_pb2.EncryptionState, as_json: bool) -> None:
    if as_json:
        session.print_json(state)
        return
    typer.echo(f"key {state.key_id}")
    for key_id in state.old_key_ids:
        typer.echo(f"older key {key_id}: still needed by some of {state.remaining_count} secrets")


def _size(count: int) -> str:
    return f"{count / 1048576:.1f} MiB" if count >= 1048576 else f"{count / 1024:.1f} KiB"
