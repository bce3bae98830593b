"""`portway plugin install`, `show`, `grant`, `enable`, `disable`, `rollback`, `remove`: what operators decide."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from portway.clients.cli import session
from portway.clients.cli.plugin_kit import KIT
from portway.clients.endpoint import Endpoint
from portway.clients.runtime import INSTALL_SECONDS
from portway.rpc.errors import InvalidInput
from portway.rpc.status import errors_by_meaning
from portway.v1 import operations_pb2
from portway.v1 import runtime_pb2 as pb

_SUFFIX = ".sig"
_MAX_SIGNATURE_FILE = 4096
Plugin = Annotated[str, typer.Argument(metavar="PLUGIN", help="author/name")]
Json = Annotated[bool, session.JSON_OPTION]


def register(plugin: typer.Typer) -> None:
    for command in (install, show, grant, enable, disable, rollback, remove):
        plugin.command()(command)


def install(
    path: Annotated[Path, typer.Argument(exists=True, help="A plugin's folder, or a zip that `pack` made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the same version with other bytes.")] = False,
    downgrade: Annotated[bool, typer.Option("--downgrade", help="Take an older version than the current one.")] = False,
    grant_all: Annotated[bool, typer.Option("--grant", help="Grant what it asks for beyond what was granted.")] = False,
    signature: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Its signature (ZIP.sig where it is there).")
    ] = None,
    request_id: Annotated[str, typer.Option(help="The same id twice is one installation.")] = "",
    as_json: Json = False,
) -> None:
    """Install or upgrade a plugin. A version that cannot be used changes nothing, and says why."""

    async def work(endpoint: Endpoint) -> None:
        with _zip_of(path) as packed:
            start = pb.InstallPluginStart(
                force=force, allow_downgrade=downgrade, grant_permissions=grant_all, request_id=request_id
            )
            beside = path.with_name(path.name + _SUFFIX)
            if signature is not None or (path.is_file() and beside.is_file()):
                start.signature.CopyFrom(_signature_in(signature or beside))
            async with session.runtime(endpoint) as runtime:
                answer = await runtime.install_plugin(packed, start)
        if as_json:
            session.print_json(answer)
            return
        plugin = answer.plugin
        if answer.unchanged:
            typer.echo(f"{plugin.plugin_id} {plugin.version} is there already")
            return
        _tell_switch("installed", plugin, answer.replaced_version, answer.config_changes)
        typer.echo(f"it may: {', '.join(plugin.permissions) or 'nothing beyond its own run'}")

    session.run(work)


def show(plugin_id: Plugin, as_json: Json = False) -> None:
    """A plugin: its versions, who signed them, what it may, how its process is."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            plugin = await runtime.plugin(plugin_id)
        if as_json:
            session.print_json(plugin)
            return
        session.print_table(("field", "value"), _facts(plugin))
        if plugin.versions:
            typer.echo("")
            heads = ("version", "state", "installed", "signed by", "sha-256")
            session.print_table(heads, [_version_row(one) for one in plugin.versions])
        for one in plugin.versions:
            if one.ungranted_permissions:
                typer.echo(f"{one.version} waits: it also asks for {', '.join(one.ungranted_permissions)}")

    session.run(work)


def grant(
    plugin_id: Plugin,
    version: Annotated[str, typer.Option(help="Which of those that wait; without it, the last one.")] = "",
) -> None:
    """Give a version that waits what it asks for, and use it."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            with errors_by_meaning():
                request = pb.GrantPluginRequest(plugin_id=plugin_id, version=version)
                answer = await runtime.stub.GrantPlugin(request, timeout=INSTALL_SECONDS)
        _tell_switch("granted", answer.plugin, answer.replaced_version, answer.config_changes)

    session.run(work)


def enable(plugin_id: Plugin) -> None:
    """Let a plugin run again."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            with errors_by_meaning():
                await runtime.stub.EnablePlugin(pb.EnablePluginRequest(plugin_id=plugin_id), timeout=INSTALL_SECONDS)
        typer.echo(f"enabled {plugin_id}")

    session.run(work)


def disable(
    plugin_id: Plugin,
    reason: Annotated[str, typer.Option(help="Why, for those who ask.")] = "",
) -> None:
    """Refuse new runs of a plugin, and end its process when those under way have finished. Holds over restarts."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            with errors_by_meaning():
                request = pb.DisablePluginRequest(plugin_id=plugin_id, reason=reason)
                await runtime.stub.DisablePlugin(request, timeout=INSTALL_SECONDS)
        typer.echo(f"disabled {plugin_id}")

    session.run(work)


def rollback(
    plugin_id: Plugin,
    version: Annotated[str, typer.Option(help="To which; without it, the one that was current before.")] = "",
    request_id: Annotated[str, typer.Option(help="The same id twice goes back once.")] = "",
) -> None:
    """Use an earlier version again."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            with errors_by_meaning():
                request = pb.RollbackPluginRequest(plugin_id=plugin_id, version=version, request_id=request_id)
                answer = await runtime.stub.RollbackPlugin(request, timeout=INSTALL_SECONDS)
        _tell_switch("rolled back", answer.plugin, answer.replaced_version, answer.config_changes)

    session.run(work)


def remove(
    plugin_id: Plugin,
    force: Annotated[bool, typer.Option("--force", help="Even while it has runs; they fail.")] = False,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also what it kept: in its folder, and in its area of the host.")
    ] = False,
) -> None:
    """Remove an installed plugin with all of its versions."""

    async def work(endpoint: Endpoint) -> None:
        async with session.runtime(endpoint) as runtime:
            with errors_by_meaning():
                request = pb.RemovePluginRequest(plugin_id=plugin_id, force=force, delete_data=delete_data)
                await runtime.stub.RemovePlugin(request, timeout=INSTALL_SECONDS)
        typer.echo(f"removed {plugin_id}")
        if delete_data:
            async with session.host(endpoint) as host:
                with errors_by_meaning():
                    forget = operations_pb2.DeletePluginDataRequest(plugin_id=plugin_id)
                    answer = await host.operations.DeletePluginData(forget, timeout=INSTALL_SECONDS)
            typer.echo(f"deleted its folder and {answer.object_count} stored values")

    session.run(work)


@contextmanager
def _zip_of(path: Path) -> Iterator[Path]:
    """The zip itself, or one of the folder for the time of the block."""
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="portway-pack-") as folder:
        target = Path(folder) / "plugin.zip"
        done = subprocess.run(
            [*KIT, "pack", str(path), "--output", str(target)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise InvalidInput(done.stderr.strip() or f"{path} cannot be packed")
        yield target


def _signature_in(file: Path) -> pb.PluginSignature:
    try:
        written = json.loads(file.read_bytes()[:_MAX_SIGNATURE_FILE])
        return pb.PluginSignature(key_id=written["key_id"], value=bytes.fromhex(written["signature"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"{file} is no signature; `portway plugin sign` writes one") from None


def _tell_switch(what: str, plugin: pb.Plugin, replaced: str, changes: Iterable[pb.ConfigChange]) -> None:
    instead = f" (before: {replaced})" if replaced else ""
    typer.echo(f"{what} {plugin.plugin_id} {plugin.version}{instead}")
    for one in changes:
        typer.echo(f"configuration: {one.runner_id}: {one.field or 'the runner'} {one.message}", err=True)


def _facts(plugin: pb.Plugin) -> Sequence[tuple[str, str]]:
    state = session.name_of(pb.PluginState.DESCRIPTOR, plugin.state)
    return [
        ("plugin", plugin.plugin_id),
        ("version", plugin.version),
        ("state", f"{state}: {plugin.reason}" if plugin.reason else state),
        ("source", session.name_of(pb.PluginSource.DESCRIPTOR, plugin.source)),
        ("components", ", ".join(f"{one.kind} {one.name}" for one in plugin.components)),
        ("may", ", ".join(plugin.permissions) or "nothing beyond its own run"),
        ("process", f"{plugin.pid} (generation {plugin.generation})" if plugin.pid else "none"),
        ("runs", str(plugin.run_count)),
        ("isolation", plugin.isolation),
    ]


def _version_row(one: pb.PluginVersion) -> Sequence[str]:
    signed = one.key_id or "nobody"
    if one.signature_state == pb.PLUGIN_SIGNATURE_STATE_NO_LONGER_TRUSTED:
        signed += " (not trusted any more)"
    state = session.name_of(pb.PluginVersionState.DESCRIPTOR, one.state)
    return (one.version, state, session.when(one.install_time), signed, one.digest)
