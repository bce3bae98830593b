"""The one place that puts the host together. The order of entering is the order of start; leaving goes the other way:
the server first, the database last."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog

from portway.rpc.configuration import ConfigurationError, read_file
from portway.rpc.identity import Role
from portway.rpc.metrics.calls import CallCounts
from portway.rpc.serving import RunningServer, serve
from portway.rpc.traces.export import export_spans
from portway.rpc.traces.types import Recorder
from portway.server.agents.config_secrets import ConfigSecrets
from portway.server.agents.directory import AgentDirectory
from portway.server.artifacts.reaper import Reaper
from portway.server.audit.actions import told_of
from portway.server.audit.recorder import AuditRecorder
from portway.server.audit.refusals import Refusals
from portway.server.bindings.directory import BindingDirectory
from portway.server.bridge.build import build_bridge
from portway.server.components.desk import ComponentDesk
from portway.server.config import Config, HostConfig
from portway.server.declarations.apply import Declarations
from portway.server.declarations.read import Declared, read_declared
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.typing_signs import TypingSigns
from portway.server.erasure.build import build_erasures
from portway.server.events.accept import Acceptor
from portway.server.events.amendments import Amendments
from portway.server.events.guards import Guards
from portway.server.events.routing import Router
from portway.server.gateway.app import gateway_application
from portway.server.gateway.inside import RunSockets
from portway.server.http.build import ProgramUrls, program_urls, serve_programs
from portway.server.http.listener import bound
from portway.server.http.relayed import RelayedHttp
from portway.server.interactions.build import build_answers, build_decisions
from portway.server.listeners.build import build_listeners
from portway.server.metrics.build import show_host_metrics
from portway.server.models.kept.build import build_models
from portway.server.operations.build import build_operations
from portway.server.parts import Parts, Stores
from portway.server.runner_calls.box import BRIDGE, MODELS, BoxCalls
from portway.server.runner_calls.build import build_calls
from portway.server.runs.build import build_preparer
from portway.server.runs.cancel import Canceller
from portway.server.runs.close import Closer
from portway.server.runs.dispatch import Dispatcher
from portway.server.runs.execute import Means
from portway.server.runs.feed import Feeds
from portway.server.runs.live import LiveAttempts, RunTokens
from portway.server.runs.receipt import Inquiry
from portway.server.runs.recover import Recovery
from portway.server.runtimes.address import Address
from portway.server.runtimes.box import FollowedBox
from portway.server.runtimes.credential import token_in
from portway.server.runtimes.link import RuntimeLink
from portway.server.schedules.build import build_schedules
from portway.server.service_list import services_of
from portway.server.skills.build import build_skills
from portway.server.skills.projection import SkillProjection
from portway.server.skills.store import StoredSkills
from portway.server.snapshot.context import HostFacts
from portway.server.snapshot.grants import GrantBook
from portway.server.spending.ledger import SpendingAccounts
from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.stores import open_stores
from portway.server.tokens.admins_file import AdminsFile
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.box_tokens import BoxTokens
from portway.server.tokens.token_file import TokenFile, ensure_token_file
from portway.server.tools.box_client import BoxClient
from portway.server.tools.box_link import NOT_CONFIGURED, BoxLink
from portway.server.tools.mcp.build import BoxWay, build_mcp
from portway.server.tools.mcp.checks import McpRules
from portway.server.tools.mcp.declared import declare_servers
from portway.server.tools.native import NativeTools
from portway.server.tools.plugin_watch import PluginToolWatch
from portway.server.tools.registry import ToolRegistry
from portway.server.traces.build import attach_traces
from portway.server.workspaces.access import build_access
from portway.server.workspaces.quotas import WorkspaceQuotas
from portway.server.workspaces.types import DEFAULT_WORKSPACE

# After the runs have ended, streams that only watch are cut off soon.
LAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A host that serves. `metrics_url`: where its numbers are; '' for nowhere."""

    server: RunningServer
    parts: Parts
    metrics_url: str = ""


@asynccontextmanager
async def run_host(config: Config) -> AsyncIterator[RunningHost]:
    """Serve while the block runs.

    Raises WrongState (data folder, port), InvalidInput (settings), LimitExceeded (disk), Unavailable (database file).
    """
    host = config.host
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(DatabaseOptions(url=host.database_url, folder=host.data))
        )
        http = stack.enter_context(bound(host.http_listen, host.tls)) if host.serves_http else None
        parts = _build(config, open_stores(host.data, database), program_urls(host, http))
        recorder = await stack.enter_async_context(export_spans(config.telemetry, "host", host.name))
        attach_traces(parts, recorder)
        stack.push_async_callback(parts.models.close)
        await _first_start(parts)
        await _enter_jobs(stack, parts)
        await _first_contact(parts)
        await Recovery(database.writer, parts.stores.runs, parts.stores.runs, parts.closer, parts.dispatcher).recover()
        if http is not None:
            await stack.enter_async_context(serve_programs(parts, *http))
        calls = CallCounts() if host.metrics.listen else None
        metrics_url = await stack.enter_async_context(show_host_metrics(parts, calls)) if calls else ""
        server = await stack.enter_async_context(_serve(parts, calls, recorder))
        try:
            yield RunningHost(server, parts, metrics_url)
        finally:
            # New calls are refused from here on; what executes may end, while those who watch still hear of it.
            server.begin_draining()
            await parts.dispatcher.drain(host.limits.drain)


def _build(config: Config, stores: Stores, programs: ProgramUrls) -> Parts:
    host, database = config.host, stores.database
    writer = database.writer
    models = build_models(config, stores)
    access = build_access(database)
    shown = SkillProjection(StoredSkills(database.reader), stores.blobs)
    box, box_link, box_client = _box(host, access.quotas, shown)
    skills = build_skills(database, stores.blobs, box_client, host.skills)
    native = NativeTools(box_client, box_link.availability if box_link else lambda: NOT_CONFIGURED)
    tools = ToolRegistry([native, skills.tools])
    runtime = RuntimeLink(Address(host.runtime), token_in(host.runtime_credential), database.epoch, host.runtime_tls)
    agents = AgentDirectory(stores.agents)
    bindings = BindingDirectory(stores.bindings, agents)
    agent_secrets = ConfigSecrets(stores.secrets, stores.keyring)
    audit, outbox = AuditRecorder(writer), Outbox(writer, stores.deliveries)
    feeds, live = Feeds(stores.runs, stores.runs), LiveAttempts()
    run_tokens = RunTokens(live, stores.runs)
    spending = SpendingAccounts(writer, access.directory, audit)
    people = build_decisions(database, stores.events, stores.deliveries, stores.transcript, outbox, audit)
    services = {
        # Made when the first run wants it, and the calls are there.
        MODELS: RelayedHttp(lambda: gateway_application(calls.models, run_tokens, live, host.gateway)),
        BRIDGE: RelayedHttp(lambda: bridge),
    }
    sockets = RunSockets(box_client, services, database.epoch)
    box_calls = BoxCalls(box_client, native.availability, people.gate, access.switches, sockets)
    calls = build_calls(stores, models, tools, access, people, box_calls)
    operations = calls.operations()
    bridge = build_bridge(host, operations, run_tokens, live, version("portway"))
    desk = ComponentDesk(runtime, calls.storage, audit)
    grants = GrantBook(models, tools)
    facts = HostFacts(host.name, version("portway"))
    means = Means(
        database=database,
        cursors=stores.cursors,
        feeds=feeds,
        live=live,
        preparer=build_preparer(host, stores, skills, agents, agent_secrets, runtime, grants, facts, access, programs),
        runtime=runtime,
        outbox=outbox,
        signs=TypingSigns(),
        audit=audit,
        effects=stores.effects,
        ledgers=stores.runs,
        calls=calls,
        decisions=people.decisions,
        operations=operations,
        spending=spending,
        grace=host.limits.stop_grace,
    )
    closer = Closer(means, stores.runs, stores.effects, people.interactions)
    dispatcher = Dispatcher(means, closer, access.quotas, host.limits.active_runs, host.limits.waiting_runs)
    router, guards = Router(agents, bindings), Guards(audit, access.switches)
    acceptor = Acceptor(
        database,
        stores.conversations,
        router,
        guards,
        dispatcher,
        Amendments(stores.events, stores.runs, agents),
        spending,
        access.quotas,
        stores.artifacts,
        outbox,
    )
    answers = build_answers(people, stores, agents, guards, dispatcher, outbox, access.quotas, spending)
    acceptor.answers = answers
    inquiry = Inquiry(people.approvals, people.interactions)
    canceller = Canceller(writer, stores.runs, dispatcher, closer, inquiry, host.limits.stop_grace)
    authenticator = TokenAuthenticator(stores.tokens, run_tokens, writer, access.users, access.directory)
    sandboxes = box_client if box is not None else None
    erasures = build_erasures(database, access, authenticator, stores.runs, canceller, outbox, stores.blobs, sandboxes)
    return Parts(
        config=config,
        operations=build_operations(database, stores.keyring, host.data, config.retention),
        version=facts.version,
        stores=stores,
        models=models,
        tools=tools,
        skills=skills,
        mcp=build_mcp(
            host.name,
            database,
            stores.keyring,
            stores.secrets,
            McpRules(config.outbound, host.mcp_commands),
            BoxWay(box, box_link),
            tools,
        ),
        runtime=runtime,
        box=box,
        box_link=box_link,
        box_client=box_client,
        access=access,
        agents=agents,
        bindings=bindings,
        agent_secrets=agent_secrets,
        audit=audit,
        outbox=outbox,
        feeds=feeds,
        live=live,
        run_tokens=run_tokens,
        authenticator=authenticator,
        box_tokens=BoxTokens(stores.keyring, host.pass_keys_file, writer, has_box=box is not None),
        erasures=erasures,
        calls=calls,
        bridge=bridge,
        grants=grants,
        means=means,
        closer=closer,
        dispatcher=dispatcher,
        router=router,
        guards=guards,
        acceptor=acceptor,
        canceller=canceller,
        people=people,
        answers=answers,
        schedules=build_schedules(database, acceptor, stores.runs, canceller),
        desk=desk,
        listeners=build_listeners(database, stores.events, runtime, desk),
        spending=spending,
    )


def _box(
    host: HostConfig, quotas: WorkspaceQuotas, skills: SkillProjection
) -> tuple[FollowedBox | None, BoxLink | None, BoxClient]:
    if not host.box:
        # Nothing is ever dialled: the source says that there is no box.
        return None, None, BoxClient(FollowedBox(Address(""), token_in(None)))
    box = FollowedBox(Address(host.box), token_in(host.box_credential), host.box_tls)
    return box, BoxLink(box.status), BoxClient(box, quotas, skills)


async def _first_start(parts: Parts) -> None:
    """What must be there before anybody can call: what the configuration file declares, and tokens in files."""
    await parts.models.reload()
    await parts.box_tokens.publish()
    host, writer = parts.config.host, parts.stores.database.writer
    await parts.access.load()
    declared = _declared(parts)
    # The runtime is dialled later: which fields of a runner's configuration are secrets is not known yet.
    await Declarations(writer, parts.agent_secrets, parts.agents, parts.bindings).apply(declared, {})
    await declare_servers(parts.config.file, parts.config.outbound, writer, parts.mcp.secrets)
    files = [
        (host.admin_token_file, Role.ADMIN, "admin", "first administrator"),
        (host.adapter_token_file, Role.ADAPTER, "web_chat", "bundled web chat"),
    ]
    if host.skills is not None:
        for problem in (await parts.skills.folder.scan()).problems:
            structlog.get_logger("portway.server.skills").warning("a skill cannot be used", problem=problem)
    for path, role, subject, name in files:
        if path is not None:
            wanted = TokenFile(path=path, workspace_id=DEFAULT_WORKSPACE, role=role, subject=subject, name=name)
            await ensure_token_file(wanted, writer, parts.authenticator)


def _declared(parts: Parts) -> Declared:
    """Raises ConfigurationError that names the file."""
    sections = read_file(parts.config.file)
    try:
        return read_declared(sections, parts.models.of(DEFAULT_WORKSPACE))
    except ConfigurationError as error:
        raise ConfigurationError(f"{parts.config.file}: {error}") from error


async def _enter_jobs(stack: AsyncExitStack, parts: Parts) -> None:
    """Work in the background. A job that breaks ends the host loudly: the task group cancels who waits in it."""
    stores = parts.stores
    jobs: list[Coroutine[Any, Any, None]] = [
        stores.database.writer.broken(),
        parts.audit.run(),
        parts.outbox.run(),
        parts.means.traces.look_up(),
        parts.means.signs.run(),
        parts.authenticator.run(),
        parts.erasures.run(),
        parts.access.streams.watch(parts.authenticator.check_standing),
        Reaper(stores.database.writer, stores.artifacts, stores.blobs).run(),
        parts.models.watch(),
        parts.dispatcher.serve(),
        parts.schedules.scheduler.run(),
        *parts.operations.jobs(),
        parts.people.expiry.run(),
        parts.mcp.fleet.serve(),
    ]
    if (admins := parts.config.host.admins_file) is not None:
        jobs.append(AdminsFile(admins, stores.tokens, parts.authenticator).run())
    if parts.config.host.runtime:
        jobs += [parts.runtime.serve(), PluginToolWatch(parts.runtime, parts.tools, parts.desk).serve()]
        jobs += parts.listeners.jobs()
    if parts.box is not None and parts.box_link is not None:
        jobs += [parts.box.follow(), parts.box_link.watch()]
    group = await stack.enter_async_context(asyncio.TaskGroup())
    tasks = [group.create_task(job) for job in jobs]

    def stop() -> None:
        for task in tasks:
            task.cancel()

    stack.callback(stop)


async def _first_contact(parts: Parts) -> None:
    """Wait a little for runtime and box, which start at the same time: a run that begins now should find both."""
    expected: list[Coroutine[Any, Any, object]] = [parts.mcp.fleet.settled()]
    if parts.config.host.runtime:
        expected.append(parts.runtime.reached.wait())
    if parts.box_link is not None:
        expected.append(parts.box_link.answered.wait())
    with suppress(TimeoutError):
        async with asyncio.timeout(parts.config.host.limits.first_contact):
            await asyncio.gather(*expected)


@asynccontextmanager
async def _serve(parts: Parts, calls: CallCounts | None, recorder: Recorder | None) -> AsyncIterator[RunningServer]:
    host = parts.config.host
    serving = serve(
        services_of(parts),
        address=host.listen,
        authenticator=parts.authenticator,
        tls=host.tls,
        limits=host.limits.of_calls,
        grace=LAST_SECONDS,
        streams=parts.access.streams,
        refused=Refusals(parts.audit).refused,
        answered=told_of(parts.audit),
        standing=parts.authenticator.check_standing,
        counts=calls,
        recorder=recorder,
    )
    async with serving as server:
        yield server
