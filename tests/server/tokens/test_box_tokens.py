"""Tokens for the box that the host signs: who gets which, and what their keys are."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from portway.rpc.channel import open_channel
from portway.rpc.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, Reason, WrongState
from portway.rpc.pass_keys import PassKeys
from portway.rpc.passes import BOX, Claims, check_pass
from portway.v1 import audit_pb2, operations_pb2, options_pb2, token_pb2, workspace_pb2
from tests.asking import ask
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.server.callers import calling_as
from tests.server.hosting import Hosted, hosted
from tests.waiting import until_told

OPERATOR, VIEWER = options_pb2.ROLE_OPERATOR, options_pb2.ROLE_VIEWER
Request = token_pb2.IssueBoxTokenRequest


@pytest.fixture
def keys(tmp_path: Path) -> PassKeys:
    return PassKeys(tmp_path / "run" / "keys.json")


@pytest.fixture
async def issuing(tmp_path: Path, keys: PassKeys) -> AsyncIterator[Hosted]:
    """A host with a box that reads its keys."""
    box = FakeBox()
    async with serve_fake_box(box), hosted(tmp_path, None, box=box, pass_keys_file=tmp_path / "run/keys.json") as host:
        yield host


def claims_of(answer: token_pb2.IssueBoxTokenResponse, keys: PassKeys) -> Claims:
    token_id, claims = check_pass(answer.secret, keys.current(), BOX, time.time())
    assert token_id == answer.token_id
    return claims


async def test_nobody_gets_more_than_they_have(issuing: Hosted, keys: PassKeys) -> None:
    answer = await ask(issuing.channel, Request())
    assert (claims_of(answer, keys).role, claims_of(answer, keys).workspace_id) == ("operator", "default")
    assert 290 < answer.expire_time.seconds - time.time() <= 300
    assert answer.box_address
    another = workspace_pb2.Workspace(workspace_id="b", name="B")
    await ask(issuing.channel, workspace_pb2.CreateWorkspaceRequest(workspace=another))
    other = await ask(issuing.channel, Request(workspace_id="b", role=VIEWER))
    assert (claims_of(other, keys).role, claims_of(other, keys).workspace_id) == ("viewer", "b")
    async with calling_as(issuing, "operator") as operator:
        assert claims_of(await ask(operator, Request()), keys).role == "operator"
        with pytest.raises(NotPermitted):
            await ask(operator, Request(workspace_id="b"))
    async with calling_as(issuing, "viewer") as viewer:
        assert claims_of(await ask(viewer, Request()), keys).role == "viewer"
        with pytest.raises(NotPermitted):
            await ask(viewer, Request(role=OPERATOR))
    for role in ("member", "adapter", "node"):
        async with calling_as(issuing, role) as caller:
            with pytest.raises(NotPermitted) as refused:
                await ask(caller, Request())
            assert refused.value.reason is Reason.ROLE_LACKS_METHOD
    with pytest.raises(NotFound):
        await ask(issuing.channel, Request(workspace_id="no-such"))


@pytest.mark.parametrize("seconds", [0, -1, 901, 10**9])
async def test_a_time_that_is_too_long_is_refused(issuing: Hosted, seconds: int) -> None:
    with pytest.raises(InvalidInput):
        await ask(issuing.channel, Request(ttl=Duration(seconds=seconds)))


@pytest.mark.parametrize("role", [options_pb2.ROLE_ADMIN, options_pb2.ROLE_BOX, options_pb2.ROLE_MEMBER])
async def test_only_two_roles_are_given(issuing: Hosted, role: options_pb2.Role.ValueType) -> None:
    with pytest.raises(InvalidInput):
        await ask(issuing.channel, Request(role=role))


async def test_each_is_audited_without_what_opens(issuing: Hosted) -> None:
    answer = await ask(issuing.channel, Request())

    async def audited() -> bool:
        rows = (await ask(issuing.channel, audit_pb2.ListAuditEntriesRequest())).audit_entries
        assert answer.secret not in str(rows) and answer.secret.split("_")[3] not in str(rows)
        return any(row.action == "token.issue_for_box" and row.resource == answer.token_id for row in rows)

    await until_told(audited)


async def test_a_box_token_opens_nothing_of_the_host(issuing: Hosted) -> None:
    answer = await ask(issuing.channel, Request())
    async with open_channel(issuing.address, token=answer.secret) as channel:
        with pytest.raises(NotAuthenticated):
            await ask(channel, Request())


async def test_a_new_key_signs_and_the_one_before_stays_good_for_what_it_signed(
    issuing: Hosted, keys: PassKeys, tmp_path: Path
) -> None:
    before = await ask(issuing.channel, Request())
    first = claims_of(before, keys).key_id
    await ask(issuing.channel, operations_pb2.RotateEncryptionKeyRequest())

    async def rotated() -> bool:
        return len(issuing.parts.stores.keyring.keys) == 1

    await until_told(rotated)
    after = await ask(issuing.channel, Request())
    assert claims_of(after, keys).key_id != first
    assert claims_of(before, keys).key_id == first
    entries = json.loads((tmp_path / "run" / "keys.json").read_text())["keys"]
    assert [bool(entry["until"]) for entry in entries] == [False, True]
    assert entries[1]["until"] - time.time() <= 960


async def test_the_key_is_the_same_after_a_restart(tmp_path: Path, keys: PassKeys) -> None:
    box = FakeBox()
    async with serve_fake_box(box):
        async with hosted(tmp_path, None, box=box, pass_keys_file=tmp_path / "run/keys.json") as host:
            answer = await ask(host.channel, Request())
        before = dict(keys.current())
        async with hosted(tmp_path, None, box=box, pass_keys_file=tmp_path / "run/keys.json"):
            assert keys.current() == before
            claims_of(answer, keys)


async def test_a_host_without_a_box_says_so(tmp_path: Path) -> None:
    async with hosted(tmp_path, None) as host:
        with pytest.raises(WrongState) as refused:
            await ask(host.channel, Request())
        assert refused.value.reason is Reason.NOT_CONFIGURED
