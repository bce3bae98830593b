"""Any agent of the Agent Client Protocol, over its standard streams: one run of it for each message."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any

from acp import PROTOCOL_VERSION, RequestError, connect_to_agent, text_block
from acp.schema import EnvVariable, HttpHeader, HttpMcpServer, Implementation, McpServerStdio

from portway.runtime.harness.failures import LOST, PROGRAM_ERROR, check_exit, excerpt
from portway.runtime.harness.kept import KeptSession, keep_session, kept_session
from portway.runtime.harness.mcp import McpServer, bridge_servers
from portway.runtime.harness.places import ModelUrls, open_place
from portway.runtime.harness.program import Launch, Listener, empty
from portway.runtime.harness.project import context_files
from portway.runtime.harness.runner import MESSAGE_KEY, base_environment, check_prompt
from portway.runtime.harness.settings import HarnessSettings, choice, flag, read_settings, wrong
from portway.runtime.official.acp.talk import Talk
from portway.runtime.official.acp.wire import ProgramTransport
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
)

_FINISH = {
    "max_tokens": FinishReason.LENGTH,
    "max_turn_requests": FinishReason.TOOL_LIMIT,
    "refusal": FinishReason.CONTENT_FILTER,
}
_CANCEL_SECONDS = 1.0


@dataclass(slots=True)
class _Turn:
    """What one prompt is, and what came of it."""

    prompt: str
    directory: str
    servers: Sequence[McpServer]
    session_id: str
    stop_reason: str = ""


class Acp(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx, ())
        if not settings.command:
            raise wrong("command", "names no program: the agent, with the argument that makes it speak the protocol")
        check_prompt(ctx)
        kept = kept_session(ctx, settings.keep_days)
        talk = Talk(choice(ctx.config, "permissions", ("reject", "allow")))
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(open_place(ctx, host, settings))
            directory = await place.resolve(settings.working_directory or kept.working_directory)
            models: ModelUrls | None = None
            if flag(ctx.config, "models", True):
                models = await stack.enter_async_context(place.models())
            servers = await stack.enter_async_context(bridge_servers(ctx, host, place))
            files = [context_files(ctx, place.folders.run), *(server.files for server in servers)]
            await place.write({path: data for some in files for path, data in some.items()})
            environment = {**base_environment(place), **_keys(models, host.run_token), **settings.environment}
            argv = (*settings.command, *settings.arguments)
            program = await stack.enter_async_context(
                place.start(Launch(argv, directory, environment, settings.timeout))
            )
            listener = Listener(_name(settings), program, settings.timeout)
            turn = _Turn(ctx.input.text, directory, servers, kept.session_id)
            wire = ProgramTransport(program, listener, talk)
            async with aclosing(_converse(talk, wire, turn)) as results:
                async for result in results:
                    yield result
            _check(settings, talk, wire, listener, turn)
            await keep_session(ctx, host, KeptSession(turn.session_id, directory))
        yield MessageCompleted.of_text(talk.said, message_key=MESSAGE_KEY)
        yield RunCompleted(_FINISH.get(turn.stop_reason, FinishReason.STOP))


async def _converse(talk: Talk, wire: ProgramTransport, turn: _Turn) -> AsyncGenerator[RunResult, None]:
    """Results as they come. What goes wrong with the program itself is in `wire.failure`."""
    client: Any = talk
    connection = connect_to_agent(client, wire)
    asking = asyncio.ensure_future(_ask(connection, talk, turn))
    asking.add_done_callback(lambda _: talk.wake())
    try:
        while (result := await talk.next(asking)) is not None:
            yield result
        _outcome(asking, wire)
    finally:
        if not asking.done() and turn.session_id:
            # Polite, and brief: the program is ended anyway.
            with suppress(TimeoutError, ConnectionError, RunFailure, RequestError):
                async with asyncio.timeout(_CANCEL_SECONDS):
                    await connection.cancel(session_id=turn.session_id)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await connection.close()


async def _ask(connection: Any, talk: Talk, turn: _Turn) -> None:
    """A session, old or new, and one prompt in it."""
    about = Implementation(name="portway", version="1")
    hello = await connection.initialize(protocol_version=PROTOCOL_VERSION, client_info=about)
    abilities = hello.agent_capabilities
    over_http = bool(abilities and abilities.mcp_capabilities and abilities.mcp_capabilities.http)
    servers = [_server(one, over_http) for one in turn.servers]
    can_load = bool(abilities and abilities.load_session)
    if turn.session_id and can_load:
        try:
            await connection.load_session(cwd=turn.directory, mcp_servers=servers, session_id=turn.session_id)
        except RequestError:
            # It does not know the session any more.
            turn.session_id = ""
    if not turn.session_id or not can_load:
        turn.session_id = ""
        turn.session_id = (await connection.new_session(cwd=turn.directory, mcp_servers=servers)).session_id
    talk.muted = False
    answer = await connection.prompt(session_id=turn.session_id, prompt=[text_block(turn.prompt)])
    turn.stop_reason = answer.stop_reason


def _outcome(asking: "asyncio.Future[None]", wire: ProgramTransport) -> None:
    """Raises `RunFailure` where the agent answered with an error."""
    error = asking.exception()
    if isinstance(error, RequestError):
        raise RunFailure(
            PROGRAM_ERROR, f"the agent answered with an error: {excerpt(str(error))} {_data(error)}".strip()
        )
    if wire.failure is not None:
        raise wire.failure
    if error is not None and not isinstance(error, ConnectionError):
        raise RunFailure(PROGRAM_ERROR, f"the agent does not keep to the protocol: {excerpt(str(error))}") from error


def _check(settings: HarnessSettings, talk: Talk, wire: ProgramTransport, listener: Listener, turn: _Turn) -> None:
    errors = listener.errors.text()
    if not turn.stop_reason:
        if listener.exit is None:
            raise RunFailure(LOST, "the connection to the agent ended before its answer", retryable=True)
        check_exit(_name(settings), listener.exit, errors)
    if not talk.said.strip() or not turn.stop_reason:
        raise empty(_name(settings), errors)


def _name(settings: HarnessSettings) -> str:
    return settings.command[0].rsplit("/", 1)[-1]


def _data(error: RequestError) -> str:
    data = getattr(error, "data", None)
    return excerpt(str(data)) if data else ""


def _keys(models: ModelUrls | None, run_token: str) -> Mapping[str, str]:
    if models is None:
        return {}
    return {
        "OPENAI_BASE_URL": models.openai,
        "OPENAI_API_KEY": run_token,
        "ANTHROPIC_BASE_URL": models.anthropic,
        "ANTHROPIC_API_KEY": run_token,
    }


def _server(server: McpServer, over_http: bool) -> HttpMcpServer | McpServerStdio:
    """Every agent takes servers over standard streams; only some say that they take those over HTTP."""
    if over_http and server.url:
        headers = [HttpHeader(name=name, value=value) for name, value in server.headers.items()]
        return HttpMcpServer(type="http", name=server.name, url=server.url, headers=headers)
    program, *rest = server.command
    variables = [EnvVariable(name=name, value=value) for name, value in server.environment.items()]
    return McpServerStdio(name=server.name, command=program, args=rest, env=variables)
