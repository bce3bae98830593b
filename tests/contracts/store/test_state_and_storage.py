"""State and storage: versioned values with one winner."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.rpc.errors import NotFound, Stale
from portway.server.state.store import StoredState, delete_value, set_value
from portway.server.state.types import Scope, StateSpace
from portway.server.storage.forget import forget_plugin
from portway.server.storage.store import StoredStorage, delete_object, put_object
from portway.server.storage.types import Area, StorageSpace
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.prefixes import prefix_end
from portway.server.storage_engine.transaction import Transaction

SPACE = StateSpace("default", "assistant", Scope.CONVERSATION, "cnv_1")
OBJECTS = StorageSpace("default", Area.PLUGIN, "portway/notes")


async def test_a_value_is_written_read_and_versioned(database: Database) -> None:
    state = StoredState(database.reader)
    assert await database.writer.run(lambda tx: set_value(tx, SPACE, "k", '{"a":1}')) == 1
    assert await database.writer.run(lambda tx: set_value(tx, SPACE, "k", '"two"')) == 2
    value = await state.value(SPACE, "k")
    assert (value.value_json, value.version) == ('"two"', 2)
    for other in (replace(SPACE, scope_key="cnv_2"), replace(SPACE, workspace_id="w2"), replace(SPACE, agent_id="b")):
        with pytest.raises(NotFound):
            await state.value(other, "k")


@pytest.mark.parametrize("expected", [0, 1])
async def test_compare_and_set_has_one_winner(database: Database, expected: int) -> None:
    if expected:
        await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "0"))

    async def attempt(number: int) -> int | None:
        try:
            await database.writer.run(lambda tx: set_value(tx, SPACE, "k", str(number), expected))
        except Stale:
            return None
        return number

    won = [number for number in await asyncio.gather(*(attempt(n) for n in range(100))) if number is not None]
    assert len(won) == 1
    assert (await StoredState(database.reader).value(SPACE, "k")).value_json == str(won[0])


async def test_a_value_that_was_deleted_and_made_again_is_not_the_old_version(database: Database) -> None:
    first = await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "1"))
    await database.writer.run(lambda tx: delete_value(tx, SPACE, "k"))
    again = await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "1", expected=0))
    assert again > first
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "2", expected=first))


async def test_a_deleted_value_is_gone_and_a_stale_delete_is_refused(database: Database) -> None:
    await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "1"))
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: delete_value(tx, SPACE, "k", expected=7))
    await database.writer.run(lambda tx: delete_value(tx, SPACE, "k", expected=1))
    with pytest.raises(NotFound):
        await StoredState(database.reader).value(SPACE, "k")
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: delete_value(tx, SPACE, "k"))
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "1", expected=2))


async def test_pages_walk_a_prefix_and_nothing_else(database: Database) -> None:
    keys = ["a", "b", "b/1", "b/2", "b/3", "b0", "c", "b%", "b_", "B/4"]
    for key in keys:
        await database.writer.run(partial(set_value, space=SPACE, key=key, value_json="0"))
    state = StoredState(database.reader)
    first = await state.page(SPACE, "b/", "", 2)
    rest = await state.page(SPACE, "b/", first[-1].key, 2)
    assert [value.key for value in first + rest] == ["b/1", "b/2", "b/3"]
    assert [value.key for value in await state.page(SPACE, "", "", 99)] == sorted(keys)


async def test_a_snapshot_has_every_scope(database: Database) -> None:
    actor = replace(SPACE, scope=Scope.ACTOR, scope_key="ada")
    await database.writer.run(lambda tx: set_value(tx, SPACE, "k", "1"))
    await database.writer.run(lambda tx: set_value(tx, actor, "k", "2"))
    found = await StoredState(database.reader).snapshot((SPACE, actor, replace(SPACE, scope=Scope.SUBJECT)), 100)
    assert [[value.value_json for value in values] for values in found.values()] == [["1"], ["2"], []]


async def test_objects_are_kept_small_or_as_blobs(database: Database) -> None:
    storage = StoredStorage(database.reader)
    await database.writer.run(lambda tx: put_object(tx, OBJECTS, "small", size=3, value=b"\x00\x01\xff"))
    await database.writer.run(lambda tx: put_object(tx, OBJECTS, "large", size=10**9, sha256="ab" * 32))
    assert (await storage.object(OBJECTS, "small")).value == b"\x00\x01\xff"
    assert (await storage.object(OBJECTS, "large")).sha256 == "ab" * 32
    assert await storage.used(OBJECTS) == (2, 10**9 + 3)
    listed = await storage.page(OBJECTS, "", "", 10)
    assert [(item.key, item.value) for item in listed] == [("large", b""), ("small", b"")]
    with pytest.raises(NotFound):
        await storage.object(replace(OBJECTS, owner_id="another/plugin"), "small")


async def test_objects_compare_and_set_and_delete(database: Database) -> None:
    def put(expected: int) -> Callable[[], Awaitable[int]]:
        return lambda: database.writer.run(
            lambda tx: put_object(tx, OBJECTS, "k", size=1, value=b"x", expected=expected)
        )

    assert await put(0)() == 1
    for expected in (0, 2):
        with pytest.raises(Stale):
            await put(expected)()
    assert await put(1)() == 2
    await database.writer.run(lambda tx: delete_object(tx, OBJECTS, "k"))
    assert await StoredStorage(database.reader).used(OBJECTS) == (0, 0)
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: delete_object(tx, OBJECTS, "k"))
    assert await put(0)() == 4


@settings(max_examples=300, deadline=None)
@given(prefix=st.text(max_size=4), text=st.text(max_size=6))
def test_a_prefix_is_exactly_a_range(prefix: str, text: str) -> None:
    """UTF-8 order is the order of code points, which is Python's."""
    end = prefix_end(prefix)
    in_range = text >= prefix and (not end or text < end)
    assert in_range == text.startswith(prefix)


async def test_a_plugin_that_was_removed_can_be_forgotten(database: Database) -> None:
    storage = StoredStorage(database.reader)
    mine = [StorageSpace(workspace, Area.PLUGIN, "test/one") for workspace in ("ws_forget_1", "ws_forget_2")]
    others = [
        StorageSpace("ws_forget_1", Area.PLUGIN, "test/other"),
        StorageSpace("ws_forget_1", Area.BINDING, "test/one"),
    ]

    def fill(tx: Transaction) -> None:
        for space in (*mine, *others):
            for number in range(250):
                put_object(tx, space, f"key-{number}", size=5, value=b"value")

    await database.writer.run(fill)
    assert await forget_plugin(database, "test/one") == 500
    assert [await storage.used(space) for space in mine] == [(0, 0), (0, 0)]
    assert [await storage.used(space) for space in others] == [(250, 1250), (250, 1250)]
    assert await forget_plugin(database, "test/one") == 0
