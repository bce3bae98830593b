"""TokenService and the authenticator over the wire."""

import asyncio

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, NotPermitted, Reason, WrongState
from portway.rpc.identity import Caller, Role
from portway.server.tokens.manage import TokenManager
from portway.v1 import options_pb2, status_pb2, token_pb2, workspace_pb2
from tests.asking import ask
from tests.server.callers import calling_as, make_token
from tests.server.hosting import Hosted
from tests.waiting import until_told

OPERATOR, ADMIN = options_pb2.ROLE_OPERATOR, options_pb2.ROLE_ADMIN


async def works(served: Hosted, secret: str) -> bool:
    async with open_channel(served.address, token=secret) as channel:
        try:
            await ask(channel, status_pb2.GetVersionRequest())
        except NotAuthenticated:
            return False
        return True


async def refusal(served: Hosted, secret: str) -> NotAuthenticated:
    async with open_channel(served.address, token=secret) as channel:
        with pytest.raises(NotAuthenticated) as refused:
            await ask(channel, status_pb2.GetVersionRequest())
        return refused.value


async def test_a_token_is_made_shown_once_and_listed_without_its_secret(served: Hosted) -> None:
    made = await make_token(served, "viewer")
    assert made.secret.startswith("pw_viewer_")
    assert await works(served, made.secret)
    page = await ask(served.channel, token_pb2.ListTokensRequest())
    listed = {token.token_id: token for token in page.tokens}
    assert listed[made.token.token_id].name == "test viewer"
    assert made.secret.rpartition("_")[2] not in str(page)


async def test_tokens_are_listed_in_pages(served: Hosted) -> None:
    for _ in range(3):
        await make_token(served, "member")
    ids: list[str] = []
    request = token_pb2.ListTokensRequest(page_size=2)
    while True:
        page = await ask(served.channel, request)
        ids += [token.token_id for token in page.tokens]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(ids) == len(set(ids)) == 4


async def test_a_revoked_token_is_refused_at_once_and_is_told_why(served: Hosted) -> None:
    made = await make_token(served, "viewer")
    assert await works(served, made.secret)
    for _ in range(2):
        gone = await ask(served.channel, token_pb2.RevokeTokenRequest(token_id=made.token.token_id))
        assert gone.token.revoked
    assert (await refusal(served, made.secret)).reason == Reason.TOKEN_REVOKED
    with pytest.raises(WrongState):
        await ask(served.channel, token_pb2.RotateTokenRequest(token_id=made.token.token_id))


async def test_an_expired_token_is_refused_and_is_told_why(served: Hosted) -> None:
    request = token_pb2.CreateTokenRequest(name="short", role=options_pb2.ROLE_VIEWER)
    request.ttl.FromMicroseconds(1000)
    made = await ask(served.channel, request)
    assert (await refusal(served, made.secret)).reason == Reason.TOKEN_EXPIRED


async def test_a_rotated_token_keeps_its_id_and_its_old_secret_for_the_overlap_alone(served: Hosted) -> None:
    made = await make_token(served, "viewer")
    overlap = token_pb2.RotateTokenRequest(token_id=made.token.token_id)
    overlap.overlap.FromSeconds(3600)
    second = await ask(served.channel, overlap)
    assert second.token.token_id == made.token.token_id
    assert await works(served, made.secret)
    assert await works(served, second.secret)
    third = await ask(served.channel, token_pb2.RotateTokenRequest(token_id=made.token.token_id))
    assert [await works(served, one.secret) for one in (made, second, third)] == [False, False, True]


async def test_a_wrong_secret_and_an_unknown_id_are_refused_alike(served: Hosted) -> None:
    made = await make_token(served, "viewer")
    kind, token_id, _ = made.secret.removeprefix("pw_").split("_")
    wrong = await refusal(served, f"pw_{kind}_{token_id}_{'0' * 64}")
    unknown = await refusal(served, f"pw_{kind}_{'0' * 32}_{'0' * 64}")
    other_kind = await refusal(served, made.secret.replace("pw_viewer_", "pw_admin_"))
    assert wrong.message == unknown.message == other_kind.message
    assert wrong.reason == unknown.reason == other_kind.reason == Reason.TOKEN_INVALID


async def test_the_same_request_is_refused_because_a_secret_is_shown_once(served: Hosted) -> None:
    request = token_pb2.CreateTokenRequest(name="once", role=options_pb2.ROLE_VIEWER, request_id="r1")
    await ask(served.channel, request)
    with pytest.raises(Conflict):
        await ask(served.channel, request)


async def test_nobody_hands_out_more_than_they_have(served: Hosted) -> None:
    admin = await make_token(served, "admin")
    async with calling_as(served, "operator") as operator:
        await ask(operator, token_pb2.CreateTokenRequest(name="viewer", role=options_pb2.ROLE_VIEWER))
        refused = [
            token_pb2.CreateTokenRequest(name="up", role=ADMIN),
            token_pb2.RotateTokenRequest(token_id=admin.token.token_id),
            token_pb2.RevokeTokenRequest(token_id=admin.token.token_id),
            token_pb2.CreateTokenRequest(name="out", role=OPERATOR, workspace_id="elsewhere"),
        ]
        for request in refused:
            with pytest.raises(NotPermitted):
                await ask(operator, request)
    assert await works(served, admin.secret)


async def test_a_role_that_belongs_to_a_run_or_a_server_is_no_role_of_a_token(served: Hosted) -> None:
    for role in (options_pb2.ROLE_RUNNER, options_pb2.ROLE_BOX, options_pb2.ROLE_RUNTIME):
        with pytest.raises(InvalidInput):
            await ask(served.channel, token_pb2.CreateTokenRequest(name="x", role=role))


async def test_tokens_of_another_workspace_are_made_by_administrators_and_not_found_from_elsewhere(
    served: Hosted,
) -> None:
    with pytest.raises(NotFound):
        await make_token(served, "operator", "elsewhere")
    workspace = workspace_pb2.Workspace(workspace_id="elsewhere", name="Elsewhere")
    await ask(served.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))
    ours = await make_token(served, "viewer")
    async with calling_as(served, "operator", "elsewhere") as there:
        page = await ask(there, token_pb2.ListTokensRequest())
        assert [token.workspace_id for token in page.tokens] == ["elsewhere"]
        for request in (
            token_pb2.RevokeTokenRequest(token_id=ours.token.token_id),
            token_pb2.RotateTokenRequest(token_id=ours.token.token_id),
        ):
            with pytest.raises(NotFound):
                await ask(there, request)


async def test_the_last_use_of_a_token_is_noted_and_it_goes_on_working(served: Hosted) -> None:
    made = await make_token(served, "viewer")
    assert await works(served, made.secret)
    await served.parts.authenticator.note_uses()
    page = await ask(served.channel, token_pb2.ListTokensRequest())
    used = {token.token_id: token.HasField("last_use_time") for token in page.tokens}
    assert used[made.token.token_id]
    assert await works(served, made.secret)


async def test_a_token_with_an_end_is_never_one_without(served: Hosted) -> None:
    request = token_pb2.CreateTokenRequest(name="shortest", role=options_pb2.ROLE_VIEWER)
    request.ttl.FromMicroseconds(1)
    made = await ask(served.channel, request)
    assert made.token.HasField("expire_time")
    assert (await refusal(served, made.secret)).reason == Reason.TOKEN_EXPIRED
    for wrong in (0, -1):
        request.ttl.FromMicroseconds(wrong)
        with pytest.raises(InvalidInput):
            await ask(served.channel, request)


async def test_a_token_is_dead_also_where_who_revoked_it_did_not_wait(served: Hosted) -> None:
    made = await make_token(served, "viewer")
    assert await works(served, made.secret)
    manager = TokenManager(served.parts.stores.database.writer, served.parts.authenticator)
    caller = Caller(Role.ADMIN, "default", "tok_of_the_test")
    revoking = asyncio.create_task(manager.revoke(caller, made.token.token_id))
    await asyncio.sleep(0)
    revoking.cancel()

    async def is_dead() -> bool:
        return not await works(served, made.secret)

    await until_told(is_dead)
