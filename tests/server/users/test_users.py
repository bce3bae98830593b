"""Users and their tokens over the wire."""

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, NotPermitted, Reason, Stale
from portway.v1 import agent_pb2, audit_pb2, options_pb2, token_pb2, workspace_pb2
from tests.asking import ask
from tests.server.callers import calling_as
from tests.server.hosting import Hosted


def a_user(user_id: str = "ada", role: str = "OPERATOR", **more: object) -> workspace_pb2.User:
    fields = {"name": f"Name of {user_id}", "role": options_pb2.Role.Value(f"ROLE_{role}"), **more}
    return workspace_pb2.User(user_id=user_id, **fields)  # type: ignore[arg-type]


async def create(served: Hosted, user: workspace_pb2.User, request_id: str = "") -> workspace_pb2.User:
    answer = await ask(served.channel, workspace_pb2.CreateUserRequest(user=user, request_id=request_id))
    made: workspace_pb2.User = answer.user
    return made


async def update(served: Hosted, user: workspace_pb2.User) -> workspace_pb2.User:
    changed: workspace_pb2.User = (await ask(served.channel, workspace_pb2.UpdateUserRequest(user=user))).user
    return changed


async def token_of(served: Hosted, user_id: str, role: str) -> token_pb2.CreateTokenResponse:
    request = token_pb2.CreateTokenRequest(name="laptop", role=options_pb2.Role.Value(f"ROLE_{role}"), user_id=user_id)
    made: token_pb2.CreateTokenResponse = await ask(served.channel, request)
    return made


async def test_a_user_is_made_read_changed_listed_and_removed(served: Hosted) -> None:
    made = await create(served, a_user(actor_ids=["telegram:1", "web:ada"]))
    assert list(made.actor_ids) == ["telegram:1", "web:ada"] and made.revision == 1
    made.actor_ids[:] = ["telegram:2"]
    changed = await update(served, made)
    assert (list(changed.actor_ids), changed.revision) == (["telegram:2"], 2)
    with pytest.raises(Stale):
        await update(served, made)
    await create(served, a_user("bob", "MEMBER"))
    page = await ask(served.channel, workspace_pb2.ListUsersRequest(page_size=1))
    rest = await ask(served.channel, workspace_pb2.ListUsersRequest(page_token=page.next_page_token))
    assert [one.user_id for one in (*page.users, *rest.users)] == ["ada", "bob"]
    await ask(served.channel, workspace_pb2.DeleteUserRequest(user_id="bob"))
    for request in (
        workspace_pb2.GetUserRequest(user_id="bob"),
        workspace_pb2.DeleteUserRequest(user_id="bob"),
        workspace_pb2.UpdateUserRequest(user=a_user("bob")),
    ):
        with pytest.raises(NotFound):
            await ask(served.channel, request)
    page = await ask(served.channel, audit_pb2.ListAuditEntriesRequest(action="user.*"))
    assert [entry.action.removeprefix("user.") for entry in reversed(page.audit_entries)] == [
        "create",
        "update",
        "create",
        "delete",
    ]
    assert all(entry.peer.startswith("ipv4:127.0.0.1") for entry in page.audit_entries)


async def test_the_same_request_makes_one_user(served: Hosted) -> None:
    first = await create(served, a_user(""), request_id="r1")
    assert first.user_id.startswith("usr_")
    assert await create(served, a_user(""), request_id="r1") == first


async def test_what_cannot_be_is_refused(served: Hosted) -> None:
    await create(served, a_user(actor_ids=["telegram:1"]))
    for taken in (a_user(), a_user("other", name="Name of ada"), a_user("other", actor_ids=["telegram:1"])):
        with pytest.raises(Conflict):
            await create(served, taken)
    for broken in (
        a_user("x", "ADMIN"),
        a_user("x", "UNSPECIFIED"),
        a_user("x", name=" "),
        a_user("a b"),
        a_user("x", actor_ids=["telegram"]),
    ):
        with pytest.raises(InvalidInput):
            await create(served, broken)


async def test_users_of_another_workspace_are_not_found(served: Hosted) -> None:
    await create(served, a_user())
    workspace = workspace_pb2.Workspace(workspace_id="team", name="Team")
    await ask(served.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))
    async with calling_as(served, "operator", "team") as operator:
        for request in (
            workspace_pb2.GetUserRequest(user_id="ada"),
            workspace_pb2.UpdateUserRequest(user=a_user()),
            workspace_pb2.DeleteUserRequest(user_id="ada"),
            token_pb2.CreateTokenRequest(name="x", role=options_pb2.ROLE_MEMBER, user_id="ada"),
        ):
            with pytest.raises(NotFound) as foreign:
                await ask(operator, request)
            assert "ada" in str(foreign.value)
        assert not (await ask(operator, workspace_pb2.ListUsersRequest())).users


async def test_a_token_of_a_user_is_no_more_than_the_user(served: Hosted) -> None:
    ada = await create(served, a_user())
    await create(served, a_user("vic", "VIEWER"))
    with pytest.raises(NotPermitted):
        await token_of(served, "vic", "OPERATOR")
    made = await token_of(served, "ada", "OPERATOR")
    assert made.token.user_id == "ada"
    async with open_channel(served.address, token=made.secret) as channel:
        assert (await ask(channel, agent_pb2.ListAgentsRequest())).agents
        # Lowered, it reads and does no more; the same token again.
        ada.role = options_pb2.ROLE_VIEWER
        await update(served, ada)
        assert (await ask(channel, agent_pb2.ListAgentsRequest())).agents
        with pytest.raises(NotPermitted):
            await ask(channel, workspace_pb2.DeleteUserRequest(user_id="vic"))


async def test_tokens_of_a_disabled_or_deleted_user_are_dead_at_once(served: Hosted) -> None:
    ada = await create(served, a_user())
    made = await token_of(served, "ada", "OPERATOR")
    async with open_channel(served.address, token=made.secret) as channel:
        await ask(channel, agent_pb2.ListAgentsRequest())
        ada.disabled = True
        ada = await update(served, ada)
        with pytest.raises(NotAuthenticated) as disabled:
            await ask(channel, agent_pb2.ListAgentsRequest())
        assert disabled.value.reason == Reason.TOKEN_REVOKED
        ada.disabled = False
        await update(served, ada)
        await ask(channel, agent_pb2.ListAgentsRequest())
        await ask(served.channel, workspace_pb2.DeleteUserRequest(user_id="ada"))
        with pytest.raises(NotAuthenticated):
            await ask(channel, agent_pb2.ListAgentsRequest())
        await create(served, a_user())
        with pytest.raises(NotAuthenticated):
            # A new user of the same name does not get the old one's tokens.
            await ask(channel, agent_pb2.ListAgentsRequest())
