"""What is promised of the store of MCP servers, on every database."""

from functools import partial

import pytest

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.agents.types import ManagedBy
from portway.server.storage_engine.database import Database
from portway.server.tools.mcp.store import StoredMcpServers, add_server, change_server, remove_server
from portway.server.tools.mcp.types import McpSpec, MountedFolder, Transport

WORKSPACE = "default"
HTTP = McpSpec(transport=Transport.STREAMABLE_HTTP, url="https://example.org/mcp", headers=("X-Key",))
PROGRAM = McpSpec(
    transport=Transport.STDIO,
    command=("python3", "server.py"),
    env={"A": "ü"},
    secret_env=("A_TOKEN",),
    mounts=(MountedFolder("/srv/a", "/opt/a", True),),
    denied_tools=("x",),
    call_seconds=2.5,
)


async def test_a_server_is_kept_as_it_was_written(database: Database) -> None:
    store = StoredMcpServers(database.reader)
    await database.writer.run(lambda tx: add_server(tx, WORKSPACE, "one", PROGRAM, ManagedBy.CONFIG))
    kept = await store.server(WORKSPACE, "one")
    assert (kept.spec, kept.revision, kept.managed_by) == (PROGRAM, 1, ManagedBy.CONFIG)
    assert kept.create_time == kept.update_time > 0
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: add_server(tx, WORKSPACE, "one", HTTP))


async def test_a_change_needs_the_right_revision_and_another_workspace_has_none_of_it(database: Database) -> None:
    store = StoredMcpServers(database.reader)
    await database.writer.run(lambda tx: add_server(tx, WORKSPACE, "one", PROGRAM))
    changed = await database.writer.run(lambda tx: change_server(tx, WORKSPACE, "one", HTTP, expected_revision=1))
    assert (changed.revision, changed.spec) == (2, HTTP)
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: change_server(tx, WORKSPACE, "one", PROGRAM, expected_revision=1))
    for work in (
        lambda tx: change_server(tx, "other", "one", PROGRAM),
        lambda tx: remove_server(tx, "other", "one"),
    ):
        with pytest.raises(NotFound):
            await database.writer.run(work)
    with pytest.raises(NotFound):
        await store.server("other", "one")
    assert (await store.server(WORKSPACE, "one")).spec == HTTP


async def test_servers_are_paged_by_id_and_gone_when_removed(database: Database) -> None:
    store = StoredMcpServers(database.reader)
    for workspace_id, server_id in ((WORKSPACE, "c"), (WORKSPACE, "a"), ("other", "b"), (WORKSPACE, "b")):
        await database.writer.run(partial(add_server, workspace_id=workspace_id, server_id=server_id, spec=HTTP))
    assert [one.server_id for one in await store.page(WORKSPACE, "", 2)] == ["a", "b"]
    assert [one.server_id for one in await store.page(WORKSPACE, "b", 2)] == ["c"]
    await database.writer.run(lambda tx: remove_server(tx, WORKSPACE, "b"))
    assert [(one.workspace_id, one.server_id) for one in await store.every()] == [
        ("default", "a"),
        ("default", "c"),
        ("other", "b"),
    ]
