"""The page of what is served is made from what servers answer."""

from typing import Any

import pytest

from portway.rpc.binding import Service
from portway.rpc.channel import open_channel
from portway.rpc.describe import NOT_AVAILABLE, contract_services, describe, served_methods
from portway.rpc.errors import Unavailable
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import serve
from portway.rpc.tokens import FixedTokens, mint_token
from portway.v1 import box_pb2, run_pb2

RUNS = run_pb2.DESCRIPTOR.services_by_name["RunService"]
BOX = box_pb2.DESCRIPTOR.services_by_name["BoxService"]
ADMIN = mint_token("admin")
ADMINS = FixedTokens([(ADMIN.text, Caller(Role.ADMIN, "default", ADMIN.token_id))])


class Servicer:
    """Serves a unary method and one with streamed responses, and leaves the rest."""

    async def GetRun(self, request: Any, call: Any) -> Any:
        pytest.fail("asking what is served calls nothing")

    async def WatchRun(self, request: Any, call: Any) -> None:
        pytest.fail("asking what is served calls nothing")


async def test_a_server_is_asked_which_methods_it_serves_without_calling_any() -> None:
    async with (
        serve([Service(RUNS, Servicer()), Service(BOX, None)], address="127.0.0.1:0", authenticator=ADMINS) as server,
        open_channel(server.address, token=ADMIN.text) as channel,
    ):
        served = await served_methods(channel)
    assert served == {"/portway.v1.RunService/GetRun", "/portway.v1.RunService/WatchRun"}
    page = describe({"host": served, "box": set()})
    rows = [line for line in page.splitlines() if line.endswith("| host |")]
    assert [row.split("|")[1].strip() for row in rows] == ["GetRun", "WatchRun"]
    total = sum(len(service.methods) for service in contract_services())
    assert f"2 of {total} methods" in page
    assert page.count(f"| {NOT_AVAILABLE} |") == total - 2


async def test_a_server_that_does_not_know_the_caller_is_not_described_as_empty() -> None:
    async with (
        serve([Service(RUNS, Servicer())], address="127.0.0.1:0", authenticator=ADMINS) as server,
        open_channel(server.address) as channel,
    ):
        with pytest.raises(Unavailable, match="UNAUTHENTICATED"):
            await served_methods(channel)
