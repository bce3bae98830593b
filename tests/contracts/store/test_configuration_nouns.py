"""Agents, bindings, workspaces, tokens, audit, secrets, adapters: what an operator keeps."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from portway.rpc.errors import Conflict, DataLoss, NotFound, Stale, WrongState
from portway.server.adapters.store import StoredAdapters, connect_adapter, save_cursor
from portway.server.adapters.types import Introduction, SurfaceRecord
from portway.server.agents.store import StoredAgents, add_agent, change_agent, remove_agent
from portway.server.agents.types import AgentSpec, BoxPolicy, Budget, ManagedBy, NoticeTexts, QueuePolicy
from portway.server.audit.store import NEWEST, StoredAudit, append_audit
from portway.server.audit.types import AuditFilter, NewAuditRecord
from portway.server.bindings.store import StoredBindings, add_binding, change_binding, remove_binding
from portway.server.bindings.types import GLOBAL_WORKSPACE, BindingFilters, BindingScope, BindingSpec
from portway.server.secrets.store import StoredSecrets, put_secret, remove_secret, reseal_secrets
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import Keyring, load_keyring
from portway.server.storage_engine.transaction import Transaction
from portway.server.tokens.store import (
    StoredTokens,
    add_token,
    mark_used,
    purge_tokens,
    revoke_token,
    rotate_token,
)
from portway.server.tokens.types import NewToken
from portway.server.workspaces.store import StoredWorkspaces, add_workspace, change_workspace, ensure_workspace
from tests.contracts.store.given import WORKSPACE

SPEC = AgentSpec(
    name="Helper",
    runner_id="plugin:portway/local-agent/default",
    config_json='{"prompt":"你好"}',
    queue_policy=QueuePolicy.STEER,
    box_policy=BoxPolicy(tools=("*",)),
    notices=NoticeTexts(failed={"en": "Sorry."}),
    run_budget=Budget(tokens=1000),
)

TELEGRAM = Introduction(
    adapter_id="tg", platform="telegram", surfaces=(SurfaceRecord(surface="telegram", bot_ids=("bot_1",)),)
)


async def test_an_agent_is_read_back_as_it_was_written(database: Database) -> None:
    added = await database.writer.run(lambda tx: add_agent(tx, WORKSPACE, "helper", SPEC, ManagedBy.CONFIG))
    found = await StoredAgents(database.reader).agent(WORKSPACE, "helper")
    assert found == added
    assert (found.spec, found.managed_by, found.revision) == (SPEC, ManagedBy.CONFIG, 1)
    with pytest.raises(NotFound):
        await StoredAgents(database.reader).agent("other", "helper")


async def test_an_agents_id_and_name_are_its_own(database: Database) -> None:
    await database.writer.run(lambda tx: add_agent(tx, WORKSPACE, "helper", SPEC))
    other = AgentSpec(name="Other", runner_id="plugin:a/b/c")
    await database.writer.run(lambda tx: add_agent(tx, WORKSPACE, "other", other))
    refused: list[Callable[[Transaction], object]] = [
        lambda tx: add_agent(tx, WORKSPACE, "helper", AgentSpec(name="New", runner_id="plugin:a/b/c")),
        lambda tx: add_agent(tx, WORKSPACE, "new", SPEC),
        lambda tx: change_agent(tx, WORKSPACE, "other", SPEC),
    ]
    for unit in refused:
        with pytest.raises(Conflict):
            await database.writer.run(unit)
    assert [agent.spec.name for agent in await StoredAgents(database.reader).page(WORKSPACE, "", 9)] == [
        "Helper",
        "Other",
    ]


async def test_an_agent_is_changed_from_the_revision_that_was_read(database: Database) -> None:
    await database.writer.run(lambda tx: add_agent(tx, WORKSPACE, "helper", SPEC))
    changed = await database.writer.run(
        lambda tx: change_agent(tx, WORKSPACE, "helper", AgentSpec(name="New", runner_id="r"), expected_revision=1)
    )
    assert (changed.revision, changed.spec.name) == (2, "New")
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: change_agent(tx, WORKSPACE, "helper", SPEC, expected_revision=1))
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: remove_agent(tx, WORKSPACE, "helper", expected_revision=1))
    await database.writer.run(lambda tx: remove_agent(tx, WORKSPACE, "helper", expected_revision=2))
    for unit in (
        lambda tx: remove_agent(tx, WORKSPACE, "helper"),
        lambda tx: change_agent(tx, WORKSPACE, "helper", SPEC),
    ):
        with pytest.raises(NotFound):
            await database.writer.run(unit)


async def test_a_binding_is_considered_in_its_workspace_and_a_global_one_everywhere(database: Database) -> None:
    own = BindingSpec(agent_id="helper", scope=BindingScope.BOT, scope_id="bot_1", filters=BindingFilters(prefix="/"))
    everywhere = BindingSpec(agent_id="assistant", scope=BindingScope.GLOBAL)
    await database.writer.run(lambda tx: add_binding(tx, WORKSPACE, "own", own))
    await database.writer.run(lambda tx: add_binding(tx, GLOBAL_WORKSPACE, "default", everywhere, ManagedBy.HOST))
    bindings = StoredBindings(database.reader)
    assert {b.binding_id: b.spec for b in await bindings.considered(WORKSPACE)} == {"own": own, "default": everywhere}
    assert [b.binding_id for b in await bindings.considered("other")] == ["default"]
    assert [b.binding_id for b in await bindings.of_agent(WORKSPACE, "helper")] == ["own"]
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: add_binding(tx, WORKSPACE, "own", own))


async def test_a_binding_is_changed_and_removed(database: Database) -> None:
    await database.writer.run(lambda tx: add_binding(tx, WORKSPACE, "b", BindingSpec(agent_id="one")))
    changed = await database.writer.run(
        lambda tx: change_binding(tx, WORKSPACE, "b", BindingSpec(agent_id="two"), expected_revision=1)
    )
    assert (changed.revision, changed.spec.agent_id) == (2, "two")
    bindings = StoredBindings(database.reader)
    assert await bindings.binding(WORKSPACE, "b") == changed
    assert await bindings.of_agent(WORKSPACE, "one") == []
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: remove_binding(tx, WORKSPACE, "b", expected_revision=1))
    await database.writer.run(lambda tx: remove_binding(tx, WORKSPACE, "b"))
    assert await bindings.page(WORKSPACE, "", 9) == []


def test_a_narrower_scope_has_a_higher_rank() -> None:
    ranks = [scope.rank for scope in BindingScope]
    assert ranks == sorted(ranks)
    assert BindingScope.CONVERSATION.rank > BindingScope.BOT.rank > BindingScope.GLOBAL.rank


async def test_workspaces_are_added_once(database: Database) -> None:
    assert await database.writer.run(lambda tx: ensure_workspace(tx, "default", "Default"))
    assert not await database.writer.run(lambda tx: ensure_workspace(tx, "default", "Renamed"))
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: add_workspace(tx, "default", "Again"))
    await database.writer.run(lambda tx: change_workspace(tx, "default", name="Ours", disabled=True))
    workspaces = StoredWorkspaces(database.reader)
    found = await workspaces.workspace("default")
    assert (found.name, found.disabled, found.revision) == ("Ours", True, 2)
    assert await workspaces.page("", 9) == [found]
    with pytest.raises(NotFound):
        await workspaces.workspace("other")


async def test_a_token_stays_known_after_its_end_until_it_is_purged(database: Database) -> None:
    tokens = StoredTokens(database.reader)
    for token_id in ("tok_1", "tok_2", "tok_3"):
        new = NewToken(
            workspace_id=WORKSPACE,
            token_id=token_id,
            kind="admin",
            role="admin",
            subject="ada",
            secret_hash=b"h" * 32,
        )
        await database.writer.run(partial(add_token, token=new))
    await database.writer.run(lambda tx: revoke_token(tx, WORKSPACE, "tok_1"))
    await database.writer.run(lambda tx: tx.execute("UPDATE tokens SET expire_time = 500 WHERE token_id = 'tok_2'"))
    await database.writer.run(lambda tx: mark_used(tx, {"tok_3": 77, "tok_0": 1}))
    assert (await tokens.token("tok_1")).revoke_time > 0
    assert (await tokens.token("tok_2")).expire_time == 500
    assert (await tokens.token("tok_3")).last_use_time == 77
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: revoke_token(tx, "other", "tok_3"))
    assert await database.writer.run(lambda tx: purge_tokens(tx, 501)) == 1
    assert [token.token_id for token in await tokens.page(WORKSPACE, "", 9)] == ["tok_1", "tok_3"]
    with pytest.raises(NotFound):
        await tokens.token("tok_2")


async def test_a_rotated_token_has_a_new_secret_and_the_old_one_for_a_while(database: Database) -> None:
    new = NewToken(workspace_id=WORKSPACE, token_id="tok_1", kind="api", role="viewer", subject="", secret_hash=b"one")
    await database.writer.run(lambda tx: add_token(tx, new))
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: add_token(tx, new))
    rotated = await database.writer.run(lambda tx: rotate_token(tx, WORKSPACE, "tok_1", b"two", overlap=10_000_000))
    assert (rotated.secret_hash, rotated.previous_hash) == (b"two", b"one")
    assert rotated.previous_expire_time > rotated.create_time
    at_once = await database.writer.run(lambda tx: rotate_token(tx, WORKSPACE, "tok_1", b"three", overlap=0))
    assert at_once.previous_expire_time == 0
    await database.writer.run(lambda tx: revoke_token(tx, WORKSPACE, "tok_1"))
    with pytest.raises(WrongState):
        await database.writer.run(lambda tx: rotate_token(tx, WORKSPACE, "tok_1", b"four", overlap=0))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: rotate_token(tx, "other", "tok_1", b"four", overlap=0))


async def test_audit_records_are_numbered_and_filtered(database: Database) -> None:
    records = [
        NewAuditRecord(workspace_id=WORKSPACE, action="GetRun", resource=f"run_{n}", allowed=n != 2, run_id=f"run_{n}")
        for n in range(1, 4)
    ]
    await database.writer.run(lambda tx: append_audit(tx, records))
    await database.writer.run(lambda tx: append_audit(tx, []))
    audit = StoredAudit(database.reader)
    assert [r.sequence for r in await audit.page(WORKSPACE, AuditFilter(), NEWEST, 9)] == [3, 2, 1]
    refused = await audit.page(WORKSPACE, AuditFilter(refused_only=True), NEWEST, 9)
    assert [(r.resource, r.allowed) for r in refused] == [("run_2", False)]
    assert len(await audit.page(WORKSPACE, AuditFilter(run_id="run_1"), NEWEST, 9)) == 1
    assert await audit.page("other", AuditFilter(), NEWEST, 9) == []


def files_with(folder: Path, content: bytes) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and content in file.read_bytes()]


async def test_a_secret_is_not_on_disk_in_the_clear(database: Database, tmp_path: Path) -> None:
    keyring = load_keyring(tmp_path / "keys.json")
    await database.writer.run(lambda tx: put_secret(tx, keyring, WORKSPACE, "openai", "sk-very-secret-value"))
    secrets = StoredSecrets(database.reader, keyring)
    assert (await secrets.secret(WORKSPACE, "openai")).value == "sk-very-secret-value"
    assert "very-secret" not in repr(await secrets.secret(WORKSPACE, "openai"))
    assert "very-secret" not in repr(await secrets.page(WORKSPACE, "", 9))
    assert not files_with(tmp_path, b"very-secret")
    stored = await database.reader.run(lambda tx: tx.all("SELECT * FROM secrets"))
    assert len(stored) == 1
    assert "very-secret" not in str(stored)
    with pytest.raises(NotFound):
        await secrets.secret("other", "openai")


async def test_a_secret_moved_to_another_place_does_not_open(database: Database, tmp_path: Path) -> None:
    keyring = load_keyring(tmp_path / "keys.json")
    await database.writer.run(lambda tx: put_secret(tx, keyring, "other", "openai", "theirs"))
    await database.writer.run(lambda tx: tx.execute("UPDATE secrets SET workspace_id = :w", {"w": WORKSPACE}))
    with pytest.raises(DataLoss):
        await StoredSecrets(database.reader, keyring).secret(WORKSPACE, "openai")


async def test_after_a_rotation_every_secret_is_under_the_new_key(database: Database, tmp_path: Path) -> None:
    old = load_keyring(tmp_path / "keys.json")
    for number in range(5):
        await database.writer.run(
            partial(put_secret, keyring=old, workspace_id=WORKSPACE, secret_id=f"s{number}", value=f"value {number}")
        )
    rotated = old.rotated()
    counts = [await database.writer.run(lambda tx: reseal_secrets(tx, rotated, 3)) for _ in range(3)]
    assert counts == [3, 2, 0]
    new_alone = StoredSecrets(database.reader, Keyring(rotated.keys[:1]))
    assert [(await new_alone.secret(WORKSPACE, f"s{n}")).value for n in range(5)] == [f"value {n}" for n in range(5)]
    with pytest.raises(DataLoss):
        await StoredSecrets(database.reader, old).secret(WORKSPACE, "s0")
    await database.writer.run(lambda tx: remove_secret(tx, WORKSPACE, "s0"))
    with pytest.raises(NotFound):
        await new_alone.secret(WORKSPACE, "s0")


async def test_a_replaced_connection_of_an_adapter_saves_nothing(database: Database) -> None:
    first = await database.writer.run(lambda tx: connect_adapter(tx, WORKSPACE, TELEGRAM))
    await database.writer.run(lambda tx: save_cursor(tx, WORKSPACE, "tg", "offset", "41", first))
    second = await database.writer.run(lambda tx: connect_adapter(tx, WORKSPACE, TELEGRAM))
    assert second == first + 1
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: save_cursor(tx, WORKSPACE, "tg", "offset", "40", first))
    await database.writer.run(lambda tx: save_cursor(tx, WORKSPACE, "tg", "offset", "42", second))
    adapters = StoredAdapters(database.reader)
    assert await adapters.cursors(WORKSPACE, "tg") == {"offset": "42"}
    found = await adapters.adapter(WORKSPACE, "tg")
    assert (found.generation, found.surfaces) == (second, TELEGRAM.surfaces)
    await database.writer.run(lambda tx: save_cursor(tx, WORKSPACE, "tg", "offset", "", second))
    assert await adapters.cursors(WORKSPACE, "tg") == {}
    assert [record.adapter_id for record in await adapters.page(WORKSPACE, "", 9)] == ["tg"]
    with pytest.raises(NotFound):
        await adapters.adapter("other", "tg")
