"""What is open ends with the rights of its caller, and those who watch do not stand in the way of those who send."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import LimitExceeded, NotAuthenticated, RateLimited, Reason, WrongState
from portway.server.config import HostLimits
from portway.v1 import agent_pb2, audit_pb2, options_pb2, token_pb2, workspace_pb2
from tests.asking import ask, stream
from tests.fakes.runtime_server import FakeRuntime
from tests.server.callers import make_token
from tests.server.hosting import Hosted, hosted
from tests.waiting import until, until_told


async def held_open(served: Hosted, secret: str) -> Any:
    """A watch of the audit that is open; awaiting it gives what it ended with."""
    before = len(served.parts.access.streams)

    async def watch() -> None:
        async with open_channel(served.address, token=secret) as channel:
            async for _ in stream(channel, audit_pb2.WatchAuditRequest(action="nothing.ever")):
                pass

    task = asyncio.ensure_future(watch())
    await until(lambda: len(served.parts.access.streams) == before + 1)
    return task


async def test_revoking_a_token_ends_its_streams_and_no_others(served: Hosted) -> None:
    one, other = await make_token(served, "operator"), await make_token(served, "operator")
    ending, staying = await held_open(served, one.secret), await held_open(served, other.secret)
    await ask(served.channel, token_pb2.RevokeTokenRequest(token_id=one.token.token_id))
    with pytest.raises(NotAuthenticated) as ended:
        await asyncio.wait_for(ending, 60)
    assert ended.value.reason == Reason.TOKEN_REVOKED
    assert not staying.done() and len(served.parts.access.streams) == 1
    staying.cancel()


async def test_a_stream_ends_with_the_time_of_its_token(served: Hosted) -> None:
    request = token_pb2.CreateTokenRequest(name="short", role=options_pb2.ROLE_OPERATOR)
    request.ttl.FromSeconds(3)
    made = await ask(served.channel, request)
    ending = await held_open(served, made.secret)
    with pytest.raises(NotAuthenticated) as ended:
        await asyncio.wait_for(ending, 60)
    assert ended.value.reason == Reason.TOKEN_EXPIRED


async def test_a_rotated_token_keeps_its_streams(served: Hosted) -> None:
    made = await make_token(served, "operator")
    staying = await held_open(served, made.secret)
    request = token_pb2.RotateTokenRequest(token_id=made.token.token_id)
    request.overlap.FromSeconds(60)
    rotated = await ask(served.channel, request)
    for secret in (made.secret, rotated.secret):
        async with open_channel(served.address, token=secret) as channel:
            await ask(channel, agent_pb2.ListAgentsRequest())
    await served.parts.access.streams.look(served.parts.authenticator.check_standing)
    assert not staying.done()
    staying.cancel()


async def test_streams_end_with_their_user_and_with_their_workspace(served: Hosted) -> None:
    team = workspace_pb2.Workspace(workspace_id="team", name="Team")
    await ask(served.channel, workspace_pb2.CreateWorkspaceRequest(workspace=team))
    user = workspace_pb2.User(user_id="ada", name="Ada", role=options_pb2.ROLE_OPERATOR)
    await ask(served.channel, workspace_pb2.CreateUserRequest(user=user))
    request = token_pb2.CreateTokenRequest(name="x", role=options_pb2.ROLE_OPERATOR, user_id="ada")
    of_user = await held_open(served, (await ask(served.channel, request)).secret)
    of_team = await held_open(served, (await make_token(served, "operator", "team")).secret)
    user.disabled = True
    await ask(served.channel, workspace_pb2.UpdateUserRequest(user=user))
    with pytest.raises(NotAuthenticated):
        await asyncio.wait_for(of_user, 60)
    team.disabled = True
    await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=team))
    with pytest.raises(WrongState) as ended:
        await asyncio.wait_for(of_team, 60)
    assert ended.value.reason == Reason.WORKSPACE_DISABLED


async def test_those_who_watch_take_no_place_of_those_who_call(tmp_path: Path, schema_runtime: FakeRuntime) -> None:
    limits = HostLimits(concurrent_calls=2, concurrent_streams=3, first_contact=0.2, drain=0.1)
    async with hosted(tmp_path, schema_runtime, limits=limits) as host:
        watching = [await held_open(host, host.admin_token) for _ in range(3)]
        with pytest.raises(LimitExceeded) as refused:
            async for _ in stream(host.channel, audit_pb2.WatchAuditRequest()):
                pass
        assert refused.value.reason == Reason.OVERLOADED and refused.value.retry_after
        assert (await ask(host.channel, agent_pb2.ListAgentsRequest())).agents
        for task in watching:
            task.cancel()
        await until(lambda: len(host.parts.access.streams) == 0)


async def test_one_caller_has_so_many_streams_and_calls_a_second(tmp_path: Path, schema_runtime: FakeRuntime) -> None:
    limits = HostLimits(streams_per_caller=2, calls_per_second=0.5, calls_burst=8, first_contact=0.2, drain=0.1)
    async with hosted(tmp_path, schema_runtime, limits=limits) as host:
        made = await make_token(host, "operator")
        watching = [await held_open(host, made.secret) for _ in range(2)]
        async with open_channel(host.address, token=made.secret) as channel:
            with pytest.raises(LimitExceeded) as many:
                async for _ in stream(channel, audit_pb2.WatchAuditRequest()):
                    pass
            assert many.value.quota is not None and "2 open streams" in many.value.quota.description
            with pytest.raises(RateLimited) as fast:
                for _ in range(8):
                    await ask(channel, agent_pb2.ListAgentsRequest())
            assert fast.value.retry_after is not None and 0 < fast.value.retry_after <= 2
        # Others are not held up, and the refusals are in the audit.
        assert await _reasons(host, made.token.token_id) == {"RATE_LIMITED"}
        for task in watching:
            task.cancel()


async def _reasons(host: Hosted, token_id: str) -> set[str]:
    request = audit_pb2.ListAuditEntriesRequest(action="call.refused", actor=token_id, refused_only=True)
    found: set[str] = set()

    async def told() -> bool:
        found.update(entry.reason for entry in (await ask(host.channel, request)).audit_entries)
        return bool(found)

    await until_told(told)
    return found


async def test_who_is_kept_out_is_in_the_audit_with_the_place_they_came_from(served: Hosted) -> None:
    async with open_channel(served.address, token="nonsense") as channel:
        for _ in range(5):
            with pytest.raises(NotAuthenticated):
                await ask(channel, agent_pb2.ListAgentsRequest())

    async def told() -> bool:
        request = audit_pb2.ListAuditEntriesRequest(action="call.refused")
        entries = (await ask(served.channel, request)).audit_entries
        return [(one.reason, one.resource) for one in entries] == [
            ("TOKEN_INVALID", "/portway.v1.AgentService/ListAgents")
        ] and entries[0].peer.startswith("ipv4:127.0.0.1:")

    await until_told(told)
