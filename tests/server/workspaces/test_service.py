"""WorkspaceService over the wire."""

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, NotPermitted, Stale
from portway.v1 import agent_pb2, workspace_pb2
from tests.asking import ask
from tests.server.callers import calling_as
from tests.server.hosting import Hosted


def a_workspace(workspace_id: str = "team", name: str = "Team", **more: object) -> workspace_pb2.Workspace:
    return workspace_pb2.Workspace(workspace_id=workspace_id, name=name, **more)  # type: ignore[arg-type]


async def create(served: Hosted, workspace: workspace_pb2.Workspace, request_id: str = "") -> workspace_pb2.Workspace:
    request = workspace_pb2.CreateWorkspaceRequest(workspace=workspace, request_id=request_id)
    made: workspace_pb2.Workspace = (await ask(served.channel, request)).workspace
    return made


async def test_a_workspace_is_made_read_renamed_and_listed(served: Hosted) -> None:
    made = await create(served, a_workspace())
    made.name = "The team"
    changed = (await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=made))).workspace
    assert (changed.name, changed.revision) == ("The team", 2)
    with pytest.raises(Stale):
        await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=made))
    page = await ask(served.channel, workspace_pb2.ListWorkspacesRequest(page_size=1))
    rest = await ask(served.channel, workspace_pb2.ListWorkspacesRequest(page_token=page.next_page_token))
    assert [one.workspace_id for one in (*page.workspaces, *rest.workspaces)] == ["default", "team"]


async def test_an_id_is_made_where_none_is_given_and_the_same_request_makes_one(served: Hosted) -> None:
    first = await create(served, a_workspace(""), request_id="r1")
    assert first.workspace_id.startswith("wsp_")
    assert await create(served, a_workspace(""), request_id="r1") == first


async def test_what_cannot_be_is_refused(served: Hosted) -> None:
    await create(served, a_workspace())
    with pytest.raises(Conflict):
        await create(served, a_workspace())
    for broken in (a_workspace("*"), a_workspace("Team"), a_workspace("x", name=" ")):
        with pytest.raises(InvalidInput):
            await create(served, broken)
    with pytest.raises(InvalidInput):
        await create(served, a_workspace("x", disabled=True))
    limited = await create(served, a_workspace("x", budget={"tokens": 1}))
    assert limited.budget.tokens == 1
    with pytest.raises(NotFound):
        await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=a_workspace("nowhere")))


async def test_an_operator_sees_their_own_workspace_alone(served: Hosted) -> None:
    await create(served, a_workspace())
    async with calling_as(served, "operator", "team") as operator:
        own = await ask(operator, workspace_pb2.GetWorkspaceRequest(workspace_id="team"))
        assert own.workspace.name == "Team"
        with pytest.raises(NotFound):
            await ask(operator, workspace_pb2.GetWorkspaceRequest(workspace_id="default"))
        with pytest.raises(NotPermitted):
            await ask(operator, workspace_pb2.ListWorkspacesRequest())
        assert not (await ask(operator, agent_pb2.ListAgentsRequest())).agents
