"""Tokens of administrators that are taken away while everything runs: every server of the installation refuses them."""

from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.errors import NotAuthenticated
from portway.v1 import options_pb2, runtime_pb2, session_pb2, token_pb2
from tests.asking import ask, stream
from tests.e2e.stack import Stack, started
from tests.waiting import until_told


async def is_let_in(stack: Stack, part: str, token: str) -> bool:
    request = session_pb2.ListSessionsRequest() if part == "box" else runtime_pb2.ListPluginsRequest()
    async with open_channel(str(stack.ready[part]), token=token) as channel:
        try:
            await ask(channel, request)
        except NotAuthenticated:
            return False
        return True


async def test_an_administrators_token_is_taken_and_refused_everywhere_as_the_host_says(tmp_path: Path) -> None:
    async with started(tmp_path) as stack, open_channel(stack.host_address, token=stack.token) as host:
        parts = [part for part in ("runtime", "box") if part in stack.ready]
        made = await _made(host)
        for part in parts:
            await until_told(lambda part=part: is_let_in(stack, part, made.secret))  # type: ignore[misc]
            assert await is_let_in(stack, part, stack.token)
        rotated = await ask(host, token_pb2.RotateTokenRequest(token_id=made.token.token_id))
        for part in parts:
            await until_told(lambda part=part: is_let_in(stack, part, rotated.secret))  # type: ignore[misc]
            assert not await is_let_in(stack, part, made.secret)
        async with open_channel(str(stack.ready["runtime"]), token=rotated.secret) as channel:
            watching = stream(channel, runtime_pb2.WatchRunnersRequest())
            assert await anext(watching)
            await ask(host, token_pb2.RevokeTokenRequest(token_id=made.token.token_id))
            with pytest.raises(NotAuthenticated):
                async for _ in watching:
                    pass
        for part in parts:
            assert not await is_let_in(stack, part, rotated.secret)
            assert await is_let_in(stack, part, stack.token)
        # Only an administrator is more than one workspace's.
        operator = await ask(host, token_pb2.CreateTokenRequest(name="o", role=options_pb2.ROLE_OPERATOR))
        assert not await is_let_in(stack, "runtime", operator.secret)
        for file in (stack.data / "run").glob("*.json"):
            # Where a part serves, and the public halves of keys, are no secrets.
            assert file.stat().st_mode & 0o077 == 0 or "ready" in file.name or file.name == "pass-keys.json"
            assert made.secret.rpartition("_")[2] not in file.read_text()


async def _made(host: PortwayChannel) -> token_pb2.CreateTokenResponse:
    request = token_pb2.CreateTokenRequest(name="second administrator", role=options_pb2.ROLE_ADMIN)
    made: token_pb2.CreateTokenResponse = await ask(host, request)
    return made
