"""Any agent of the Agent Client Protocol, over its standard streams: one run of it for each message."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from acp import PROTOCOL_VERSION, RequestError, connect_to_agent, resource_link_block, text_block
from acp.schema import EnvVariable, HttpHeader, HttpMcpServer, Implementation, McpServerStdio

from portway.runtime.harness.failures import (
    BAD_OUTPUT,
    EMPTY_OUTPUT,
    LOST,
    check_exit,
    excerpt,
    login_required,
    program_failed,
)
from portway.runtime.harness.job import Job, base_environment, prepared, program_name
from portway.runtime.harness.kept import KeptSession, keep_session
from portway.runtime.harness.made import handed_back
from portway.runtime.harness.mcp import McpServer
from portway.runtime.harness.places import ModelUrls
from portway.runtime.harness.program import Launch, Listener, empty, unfinished
from portway.runtime.harness.runner import MESSAGE_KEY, anew
from portway.runtime.harness.settings import choice, flag, read_settings, wrong
from portway.runtime.official.acp.permissions import CHOICES, by_configuration, by_people
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
_AUTH_REQUIRED = -32000


@dataclass(slots=True)
class _Turn:
    """What one prompt is, and what came of it. `forgot` says that an earlier session is not gone back to, and why."""

    job: Job
    session_id: str
    stop_reason: str = ""
    forgot: str = ""


class Acp(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx, ())
        if not settings.command:
            raise wrong("command", "names no program: the agent, with the argument that makes it speak the protocol")
        asks = choice(ctx.config, "permissions", CHOICES)
        async with AsyncExitStack() as stack:
            job = await stack.enter_async_context(
                prepared(ctx, host, settings, models=flag(ctx.config, "models", True))
            )
            await job.place.write(job.context_files())
            environment = {**base_environment(job), **_keys(job.models, host.run_token), **settings.environment}
            argv = (*settings.command, *settings.arguments)
            launch = Launch(argv, job.directory, environment, settings.timeout, may_wait=asks == "ask")
            program = await stack.enter_async_context(job.place.start(launch))
            listener = Listener(program_name(settings), program, settings.timeout)
            decide = by_people(ctx, host, listener.standing_still) if asks == "ask" else by_configuration(asks)
            talk, turn = Talk(decide), _Turn(job, job.session_id, forgot=job.forgot)
            wire = ProgramTransport(program, listener, talk)
            async with aclosing(_converse(talk, wire, turn)) as results:
                async for result in results:
                    yield result
            _check(talk, listener, turn)
            await keep_session(ctx, host, KeptSession(turn.session_id, job.directory))
            async with aclosing(handed_back(host, ctx, job.place, job.outbox)) as made:
                async for result in made:
                    yield result
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
        _outcome(program_name(turn.job.settings), asking, wire)
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
    job = turn.job
    about = Implementation(name="portway", version="1")
    hello = await connection.initialize(protocol_version=PROTOCOL_VERSION, client_info=about)
    abilities = hello.agent_capabilities
    over_http = bool(abilities and abilities.mcp_capabilities and abilities.mcp_capabilities.http)
    servers = [_server(one, over_http) for one in job.servers]
    earlier, turn.session_id = turn.session_id, ""
    if earlier and abilities and abilities.load_session:
        try:
            await connection.load_session(cwd=job.directory, mcp_servers=servers, session_id=earlier)
            turn.session_id = earlier
        except RequestError as error:
            turn.forgot = f"the agent does not load {earlier} any more: {excerpt(str(error))}"
    elif earlier:
        turn.forgot = "the agent loads no sessions"
    if turn.forgot:
        talk.tell(anew(turn.forgot))
    if not turn.session_id:
        turn.session_id = (await connection.new_session(cwd=job.directory, mcp_servers=servers)).session_id
    talk.muted = False
    answer = await connection.prompt(session_id=turn.session_id, prompt=_prompt(job))
    turn.stop_reason = answer.stop_reason


def _prompt(job: Job) -> list[Any]:
    """Every agent takes texts and links to files."""
    files = [one for one in job.files if one.path]
    said = job.ctx.input.text or job.prompt
    links = [
        resource_link_block(
            one.path.rpartition("/")[2],
            f"file://{quote(one.path)}",
            mime_type=one.artifact.mime_type or None,
            size=one.artifact.size,
        )
        for one in files
    ]
    return [text_block(said), *links]


def _outcome(name: str, asking: "asyncio.Future[None]", wire: ProgramTransport) -> None:
    """Raises `RunFailure` where the agent answered with an error."""
    error = asking.exception()
    if isinstance(error, RequestError):
        said = f"{excerpt(str(error))} {_data(error)}".strip()
        raise login_required(name, said) if error.code == _AUTH_REQUIRED else program_failed(name, said)
    if wire.failure is not None:
        raise wire.failure
    if error is not None and not isinstance(error, ConnectionError):
        raise RunFailure(
            BAD_OUTPUT, f"{name} does not keep to the Agent Client Protocol: {excerpt(str(error))}"
        ) from error


def _check(talk: Talk, listener: Listener, turn: _Turn) -> None:
    errors, name = listener.errors.text(), program_name(turn.job.settings)
    if not turn.stop_reason:
        if listener.exit is None:
            raise RunFailure(LOST, "the connection to the agent ended before its answer", retryable=True)
        check_exit(name, listener.exit, errors, talk.said)
    if not talk.said.strip() and talk.refused:
        raise RunFailure(EMPTY_OUTPUT, f"{name} ended its turn without a word when it was refused: {talk.refused}")
    if not talk.said.strip():
        raise empty(name, errors)
    if not turn.stop_reason:
        raise unfinished(name, errors)


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
