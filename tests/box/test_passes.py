"""Tokens that the host signs: a real box lets their callers in as what they say, and nobody else."""

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.errors import NotAuthenticated, NotFound, NotPermitted, Reason
from portway.rpc.identity import Role
from portway.rpc.ids import new_id
from portway.rpc.passes import BOX, Claims, SigningKey
from portway.rpc.status import errors_by_meaning
from portway.v1 import box_pb2, process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, dial, new_session
from tests.box.test_authorization import METHODS, NOT_SERVED
from tests.probing import path_of, probe_all, roles_of
from tests.waiting import until_told

FIRST, SECOND = (SigningKey.of(name, os.urandom(32)) for name in ("key_1", "key_2"))


def a_pass(key: SigningKey = FIRST, *, life: float = 60, **claims: str) -> str:
    now = int(time.time())
    said = Claims(key.key_id, BOX, "default", "operator", "ada", "ada", now, now + int(life))
    return key.sign(new_id("tok"), dataclasses.replace(said, **claims))  # type: ignore[arg-type]


def publish(file: Path, *keys: SigningKey) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"keys": [{"id": key.key_id, "ed25519": key.public.hex()} for key in keys]}))
    new.chmod(0o644)
    new.rename(file)


@pytest.fixture(scope="module")
def knowing() -> Iterator[BoxProcess]:
    """A box that knows the first key."""
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as box:
        box.settings = {"pass_keys": str(box.folder / "keys.json")}
        publish(box.folder / "keys.json", FIRST)
        box.start()
        yield box


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
async def test_a_pass_calls_what_its_role_may_call_and_nothing_else(knowing: BoxProcess, role: Role) -> None:
    verdicts = await probe_all(knowing.address, METHODS, f"Bearer {a_pass(role=role.name.lower())}")
    for method in METHODS:
        found = verdicts[path_of(method)]
        if role not in roles_of(method):
            assert found.short == ("PERMISSION_DENIED", "ROLE_LACKS_METHOD"), (path_of(method), found)
        else:
            assert found.short in (("INVALID_ARGUMENT", "UNPARSABLE_MESSAGE"), NOT_SERVED), (path_of(method), found)


async def test_passes_that_are_none_open_nothing(knowing: BoxProcess) -> None:
    good = a_pass()
    wrong = {
        "over": a_pass(life=-5),
        "too long": a_pass(life=3600),
        "of an unknown key": a_pass(SECOND),
        "for another server": a_pass(audience="runtime"),
        "of every workspace": a_pass(workspace_id="*"),
        "of an administrator": a_pass(role="admin"),
        "of the host": a_pass(role="box"),
        "torn": good[:-2],
        "changed": good[:60] + ("0" if good[60] != "0" else "1") + good[61:],
    }
    for name, text in wrong.items():
        found = await probe_all(knowing.address, METHODS, f"Bearer {text}")
        assert {verdict.code for verdict in found.values()} == {"UNAUTHENTICATED"}, name
    assert not any(text.split("_")[3][:40] in knowing.log() for text in (good, *wrong.values()))


async def test_a_pass_of_a_workspace_finds_nothing_of_another(knowing: BoxProcess) -> None:
    async with dial(knowing) as channel:
        session = await new_session(channel)
        async with open_channel(knowing.address, token=a_pass()) as own:
            assert (await Inside(own, session.session_id).sh("echo mine")).stdout == "mine\n"
        async with open_channel(knowing.address, token=a_pass(workspace_id="elsewhere")) as foreign:
            told = []
            for name in (session.session_id, "no-such"):
                for workspace in ("", "default"):
                    request = session_pb2.GetSessionRequest(session_id=name, workspace_id=workspace)
                    with pytest.raises(NotFound) as refused:
                        await ask(foreign, request)
                    told.append(str(refused.value).replace(name, "…"))
            assert len(set(told)) <= 2
            with pytest.raises(NotFound):
                await Inside(foreign, session.session_id).sh("true")
        async with open_channel(knowing.address, token=a_pass(role="viewer")) as viewer:
            with pytest.raises(NotPermitted):
                await Inside(viewer, session.session_id).sh("true")
        await session.delete()


async def test_a_pass_drains_and_ends_nobody_elses_box(knowing: BoxProcess) -> None:
    async with open_channel(knowing.address, token=a_pass()) as operator:
        for request in (box_pb2.DrainBoxRequest(), box_pb2.ShutdownBoxRequest()):
            with pytest.raises(NotPermitted):
                await ask(operator, request)
        assert not (await ask(operator, box_pb2.GetBoxStatusRequest())).draining


async def test_a_stream_ends_with_the_pass_that_opened_it(knowing: BoxProcess) -> None:
    async with open_channel(knowing.address, token=a_pass(life=2)) as short:
        session = await new_session(short)
        start = process_pb2.ExecStart(session_id=session.session_id, command=process_pb2.Command(shell="sleep 20"))
        call = session.processes.Exec()
        await call.write(process_pb2.ExecRequest(start=start))
        with pytest.raises(NotAuthenticated) as ended, errors_by_meaning():
            while await call.read():
                pass
        assert ended.value.reason is Reason.TOKEN_EXPIRED


async def test_keys_are_replaced_without_a_restart(knowing: BoxProcess) -> None:
    file = knowing.folder / "keys.json"

    async def opens(text: str) -> bool:
        async with open_channel(knowing.address, token=text) as channel:
            return await works(channel)

    publish(file, SECOND, FIRST)
    assert await opens(a_pass(SECOND)) and await opens(a_pass(FIRST))
    publish(file, SECOND)
    assert await opens(a_pass(SECOND)) and not await opens(a_pass(FIRST))
    publish(file, FIRST)
    await until_told(lambda: opens(a_pass(FIRST)))


async def works(channel: PortwayChannel) -> bool:
    try:
        await ask(channel, box_pb2.GetBoxStatusRequest())
    except NotAuthenticated:
        return False
    return True
