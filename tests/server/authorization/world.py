"""A host on which every kind of caller has been: those who may call, and those who may no more or never could."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.identity import Role
from portway.rpc.tokens import mint_token
from portway.server.config import HostLimits
from portway.server.tokens.store import add_token
from portway.server.tokens.types import NewToken
from portway.v1 import options_pb2, run_pb2, token_pb2, workspace_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, answer_hello, serve_fake_runtime
from tests.server.callers import make_token
from tests.server.hosting import WORKSPACE, Hosted, hosted
from tests.waiting import until

OTHER = "neighbours"
CLOSED = "closed"
MADE_BY_API = (Role.ADMIN, Role.OPERATOR, Role.ADAPTER, Role.NODE, Role.VIEWER, Role.MEMBER)
# Enough for a matrix that asks as fast as it can.
LIMITS = HostLimits(runner_patience=5.0, stop_grace=0.3, drain=0.05, first_contact=0.2)


@dataclass(frozen=True, slots=True)
class World:
    """`roles` open doors; `dead` do not, each with the status and reason that it is refused with.

    `own` are ids of the default workspace, of a run that goes on.
    """

    host: Hosted
    runtime: FakeRuntime
    roles: dict[Role, str]
    dead: dict[str, tuple[str, str, str]]
    own: dict[str, str]


async def _hold(run: FakeRun) -> None:
    await run.cancelled.wait()


@asynccontextmanager
async def whole_world(folder: Path) -> AsyncIterator[World]:
    """Everybody, on a host that was stopped in the middle of a run and started again."""
    async with serve_fake_runtime(
        FakeRuntime(script=_hold, manifest=a_manifest(capabilities=("steering",)))
    ) as runtime:
        async with hosted(folder, runtime, limits=LIMITS) as host:
            await host.set_agent(on_interrupted="retry")
            interrupted = (await host.submit("begun twice")).run_id
            await until(lambda: bool(runtime.runs))
        runtime.script = answer_hello
        async with hosted(folder, runtime, limits=LIMITS) as host:
            await host.ended(interrupted)
            superseded, finished = (run.start.run_token for run in runtime.runs)
            dead = await _dead(host) | {
                "of a run that has ended": (finished, "FAILED_PRECONDITION", "RUN_FINISHED"),
                "of an attempt that was superseded": (superseded, "ABORTED", "ATTEMPT_SUPERSEDED"),
            }
            runtime.script = _hold
            live = await host.submit("goes on", chat="live")
            await until(lambda: len(runtime.runs) == 3)
            (item,) = await host.transcript(live.conversation_id)
            own = {"run": live.run_id, "conversation": live.conversation_id, "item": item.item_id}
            try:
                yield World(host, runtime, await _roles(host, runtime.runs[2].start.run_token), dead, own)
            finally:
                await ask(host.channel, run_pb2.CancelRunRequest(run_id=live.run_id))


async def _roles(host: Hosted, run_token: str) -> dict[Role, str]:
    """One token of every role; those that the API does not make are put where it keeps its own."""
    found = {role: (await make_token(host, role.name)).secret for role in MADE_BY_API}
    found[Role.RUNNER] = run_token
    for role in set(Role) - set(found):
        kind = role.name.lower()
        minted = mint_token(kind)
        kept = NewToken(
            workspace_id=WORKSPACE,
            token_id=minted.token_id,
            kind=kind,
            role=kind,
            subject="",
            secret_hash=minted.secret_hash,
        )
        await host.parts.stores.database.writer.run(lambda tx, kept=kept: add_token(tx, kept))
        found[role] = minted.text
    return found


async def _dead(host: Hosted) -> dict[str, tuple[str, str, str]]:
    """What no method takes. Each belonged to an administrator where one can lose it."""
    invalid = "UNAUTHENTICATED", "TOKEN_INVALID"
    admin = (await make_token(host, "admin")).secret
    return {
        "that nobody made": (mint_token("admin").text, *invalid),
        "with a wrong secret": (f"{admin.rpartition('_')[0]}_{'0' * 64}", *invalid),
        "of another kind": (admin.replace("pw_admin_", "pw_run_"), *invalid),
        "of no form": ("garbage", *invalid),
        "of a server": (host.parts.config.host.runtime_credential.read_text(), *invalid),
        "that has expired": (await _expired(host), "UNAUTHENTICATED", "TOKEN_EXPIRED"),
        "that was revoked": (await _revoked(host), "UNAUTHENTICATED", "TOKEN_REVOKED"),
        "that was rotated away": (await _rotated(host), *invalid),
        "of a user who is switched off": (await _of_user(host, "off"), "UNAUTHENTICATED", "TOKEN_REVOKED"),
        "of a user who is gone": (await _of_user(host, "gone"), "UNAUTHENTICATED", "TOKEN_REVOKED"),
        "of a closed workspace": (await _of_closed_workspace(host), "FAILED_PRECONDITION", "WORKSPACE_DISABLED"),
    }


async def _expired(host: Hosted) -> str:
    request = token_pb2.CreateTokenRequest(name="short", role=options_pb2.ROLE_ADMIN)
    request.ttl.FromMicroseconds(1)
    secret: str = (await ask(host.channel, request)).secret
    return secret


async def _revoked(host: Hosted) -> str:
    made = await make_token(host, "admin")
    await ask(host.channel, token_pb2.RevokeTokenRequest(token_id=made.token.token_id))
    return made.secret


async def _rotated(host: Hosted) -> str:
    made = await make_token(host, "admin")
    await ask(host.channel, token_pb2.RotateTokenRequest(token_id=made.token.token_id))
    return made.secret


async def _of_user(host: Hosted, fate: str) -> str:
    user = workspace_pb2.User(user_id=fate, name=fate, role=options_pb2.ROLE_OPERATOR)
    user = (await ask(host.channel, workspace_pb2.CreateUserRequest(user=user))).user
    request = token_pb2.CreateTokenRequest(name="theirs", role=options_pb2.ROLE_OPERATOR, user_id=fate)
    secret: str = (await ask(host.channel, request)).secret
    if fate == "gone":
        await ask(host.channel, workspace_pb2.DeleteUserRequest(user_id=fate))
    else:
        user.disabled = True
        await ask(host.channel, workspace_pb2.UpdateUserRequest(user=user))
    return secret


async def _of_closed_workspace(host: Hosted) -> str:
    workspace = workspace_pb2.Workspace(workspace_id=CLOSED, name="Closed")
    workspace = (await ask(host.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))).workspace
    secret = (await make_token(host, "operator", CLOSED)).secret
    workspace.disabled = True
    await ask(host.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=workspace))
    return secret
