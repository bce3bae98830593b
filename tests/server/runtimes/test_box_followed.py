"""The host's end of a real box that is killed, frozen, switched off, moved and given another token."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.rpc.tokens import mint_token
from portway.server.runtimes.address import Address
from portway.server.runtimes.box import FollowedBox
from portway.server.runtimes.credential import token_in
from portway.server.tools.box_link import BoxLink
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.waiting import until


@pytest.fixture
def box() -> Iterator[BoxProcess]:
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as running:
        yield running


@asynccontextmanager
async def followed(box: BoxProcess, credential: Path) -> AsyncIterator[BoxLink]:
    """A link that asks often, over a connection that goes where the ready file says."""
    await asyncio.to_thread(credential.write_text, box.tokens["service"].text)
    client = FollowedBox(Address(str(box.folder / "ready.json")), token_in(credential))
    link = BoxLink(client.status, heartbeat=0.1, patience=1.0)
    tasks = [asyncio.create_task(client.follow()), asyncio.create_task(link.watch())]
    try:
        yield link
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.__aexit__(None, None, None)


def available(link: BoxLink) -> bool:
    return link.availability().available


async def test_a_box_that_comes_late_dies_and_comes_back_elsewhere_is_followed(box: BoxProcess, tmp_path: Path) -> None:
    async with followed(box, tmp_path / "token") as link:
        assert not available(link) and not link.availability().absent
        box.start()
        await until(lambda: available(link))
        box.kill()
        await until(lambda: not available(link))
        assert "cannot be reached" in link.availability().reason
        before = box.address
        box.start()
        assert box.address != before
        await until(lambda: available(link))


async def test_a_box_that_is_frozen_is_told_from_one_that_works(box: BoxProcess, tmp_path: Path) -> None:
    box.start()
    async with followed(box, tmp_path / "token") as link:
        await until(lambda: available(link))
        os.kill(box.pid, signal.SIGSTOP)
        try:
            await until(lambda: not available(link))
            assert "does not answer" in link.availability().reason
        finally:
            os.kill(box.pid, signal.SIGCONT)
        await until(lambda: available(link))


async def test_a_box_that_takes_another_token_is_refused_until_it_is_given(box: BoxProcess, tmp_path: Path) -> None:
    box.start()
    async with followed(box, tmp_path / "token") as link:
        await until(lambda: available(link))
        other = mint_token("service")
        file = box.folder / "credentials.json"
        entry = {"id": other.token_id, "sha256": other.secret_hash.hex(), "role": "box", "workspace_id": "*"}
        new = file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(json.dumps({"tokens": [entry]}))
        os.chown(new, file.stat().st_uid, file.stat().st_gid)
        new.rename(file)
        await until(lambda: not available(link))
        assert "token" in link.availability().reason
        (tmp_path / "token").write_text(other.text)
        await until(lambda: available(link))


async def test_a_box_that_is_switched_off_says_so_and_is_no_missing_one(box: BoxProcess, tmp_path: Path) -> None:
    box.settings = {"enabled": False}
    box.start()
    async with followed(box, tmp_path / "token") as link:
        await until(lambda: "switched off" in link.availability().reason)
        assert not available(link)
        box.stop()
        box.settings = {}
        box.start()
        await until(lambda: available(link))
