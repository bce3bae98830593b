"""Builds the runtime. The order of entering is the order of start; leaving goes backwards: the server, then plugins."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import structlog

from portway.rpc.binding import Service
from portway.rpc.cursor import CursorCodec
from portway.rpc.identity import Authenticator
from portway.rpc.metrics.calls import CallCounts
from portway.rpc.metrics.families import Source
from portway.rpc.metrics.listener import show_metrics
from portway.rpc.serving import RunningServer, serve
from portway.rpc.streams import OpenStreams, Standing
from portway.rpc.traces.config import TelemetryConfig
from portway.rpc.traces.export import export_spans
from portway.rpc.traces.types import Recorder
from portway.runtime.config import RuntimeConfig
from portway.runtime.data_folder import ENVIRONMENTS, INSTALLED, KEPT, PLUGINS, open_data_folder
from portway.runtime.harness.allowances import told_to_harnesses
from portway.runtime.installed.build import build_managed, open_stored
from portway.runtime.kept.folders import PluginFolders
from portway.runtime.metrics import RuntimeNumbers
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.plugins.watch import reloading
from portway.runtime.runs.active import ActiveRuns
from portway.runtime.service.pages import Pages
from portway.runtime.service.servicer import RuntimeServicer
from portway.runtime.service.uploads import Uploads
from portway.runtime.workers.supervisor import supervise
from portway.runtime.workers.types import WorkerLimits
from portway.v1 import runtime_pb2

BUNDLED = Path(__file__).resolve().parent / "official"
SERVICE = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"]


@asynccontextmanager
async def run_runtime(
    config: RuntimeConfig,
    authenticator: Authenticator,
    standing: Standing | None = None,
    telemetry: TelemetryConfig | None = None,
) -> AsyncIterator[RunningServer]:
    """A runtime that serves for the time of the block; `standing` raises for callers whose streams are to end.

    Raises `WrongState` for a folder or address in use.
    """
    streams = OpenStreams()
    with open_data_folder(config.data):
        async with (
            export_spans(telemetry or TelemetryConfig(), "runtime") as recorder,
            _run(config, authenticator, streams, recorder) as server,
        ):
            if standing is None:
                yield server
                return
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(streams.watch(standing))
                try:
                    yield server
                finally:
                    watching.cancel()


@asynccontextmanager
async def _run(
    config: RuntimeConfig, authenticator: Authenticator, streams: OpenStreams, recorder: Recorder | None
) -> AsyncIterator[RunningServer]:
    added = [*config.plugins, config.data / PLUGINS]
    stored = open_stored(config.installing, (config.data / INSTALLED).absolute(), [BUNDLED], added)
    catalog = Catalog(stored.inventory.look)
    catalog.show(await catalog.look())
    for problem in catalog.contents.problems:
        log = structlog.get_logger("portway.runtime.plugins")
        tell = log.warning if problem.warning else log.error
        tell("plugin problem", plugin=problem.plugin, location=problem.location, problem=problem.message)
    limits = WorkerLimits(
        start=config.start_seconds,
        drain=config.drain_seconds,
        hung=config.hung_seconds,
        look=min(WorkerLimits.look, config.hung_seconds),
        keep_cookies=config.keep_cookies,
    )
    folders = PluginFolders(config.data.resolve() / KEPT)
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(
            supervise(
                _private_folder(),
                limits,
                config.grants,
                told_to_harnesses(config),
                config.environments,
                (config.data / ENVIRONMENTS).absolute(),
                folders,
            )
        )
        supervisor.apply(catalog.contents.plugins)
        managed = build_managed(config.installing, stored, catalog, supervisor, folders)
        if config.reload_on_change:
            await stack.enter_async_context(reloading(added, managed.changes.reload))
        runs = ActiveRuns(config.max_runs)
        calls = CallCounts() if config.metrics.listen else None
        if calls is not None:
            sources: list[Source] = [calls, RuntimeNumbers(supervisor, runs, managed.decisions, stored.records)]
            await stack.enter_async_context(show_metrics(config.metrics, config.tls, sources))
        servicer = RuntimeServicer(
            catalog,
            supervisor,
            runs,
            folders,
            Pages(CursorCodec(os.urandom(32))),
            managed,
            Uploads(managed.installer, config.installing.at_once, config.installing.waiting),
            version("portway"),
            datetime.now(UTC),
        )
        service = Service(SERVICE, servicer, raw_methods=frozenset({"RunAgent", "RunComponent"}))
        async with serve(
            [service],
            address=config.listen,
            authenticator=authenticator,
            tls=config.tls,
            grace=config.grace_seconds,
            counts=calls,
            streams=streams,
            recorder=recorder,
        ) as server:
            yield server


def _private_folder() -> Path:
    """For sockets, whose paths may have 107 bytes: so it does not lie in the data folder, which may be deep."""
    return Path(tempfile.mkdtemp(prefix="portway-", dir=os.environ.get("XDG_RUNTIME_DIR") or "/tmp"))
