"""Whether the box can be used, and why not."""

from __future__ import annotations

import asyncio

import pytest

from portway.rpc.errors import Unavailable
from portway.server.tools.box_link import BoxLink
from portway.server.tools.types import Availability
from portway.v1 import box_pb2
from tests.fakes.box_server import FakeBox, serve_fake_box


async def test_a_box_that_works_is_available() -> None:
    async with serve_fake_box(FakeBox()) as client:
        link = BoxLink(client.status)
        assert not link.availability().available
        assert await link.refresh()
        assert link.availability() == Availability(True)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (box_pb2.GetBoxStatusResponse(enabled=False), "box.enabled"),
        (box_pb2.GetBoxStatusResponse(enabled=True, reason="bubblewrap is missing"), "bubblewrap is missing"),
        (box_pb2.GetBoxStatusResponse(enabled=True), "portway doctor"),
        (box_pb2.GetBoxStatusResponse(enabled=True, available=True, draining=True), "stopping"),
    ],
)
async def test_a_box_that_cannot_be_used_says_why(status: box_pb2.GetBoxStatusResponse, reason: str) -> None:
    async with serve_fake_box(FakeBox(status=status)) as client:
        link = BoxLink(client.status)
        assert await link.refresh()
    assert not link.availability().available
    assert reason in link.availability().reason


async def test_a_box_that_goes_away_and_comes_back_is_noticed_without_being_asked() -> None:
    answers: list[box_pb2.GetBoxStatusResponse | Exception] = [
        box_pb2.GetBoxStatusResponse(enabled=True, available=True),
        Unavailable("connection refused"),
    ]

    async def ask() -> box_pb2.GetBoxStatusResponse:
        answer = answers.pop() if answers else box_pb2.GetBoxStatusResponse(enabled=True, available=True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    link = BoxLink(ask)
    watching = asyncio.create_task(link.watch())
    first = await link.changed()
    assert "connection refused" in first.reason
    assert (await link.changed()).available
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
