"""The transcript: numbered by conversation, paged both ways, found by words in every script."""

import asyncio

import pytest

from portway.rpc.errors import NotFound
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import (
    StoredTranscript,
    append_items,
    copy_items,
    redact_item,
    replace_item,
)
from portway.server.transcript.types import Order, PageQuery, Role, SearchQuery
from tests.contracts.store.given import WORKSPACE, an_item, an_open_conversation


async def said(database: Database, conversation_id: str, *texts: str, role: Role = Role.USER) -> list[str]:
    items = [an_item(text, role) for text in texts]
    await database.writer.run(lambda tx: append_items(tx, WORKSPACE, conversation_id, items))
    return [item.item_id for item in items]


async def found(database: Database, text: str, conversation_id: str = "", **more: object) -> list[str]:
    query = SearchQuery(text=text, limit=50, conversation_id=conversation_id, **more)  # type: ignore[arg-type]
    return [item.text for item in await StoredTranscript(database.reader).search(WORKSPACE, query)]


async def test_items_are_numbered_without_gaps_when_many_write_at_once(database: Database) -> None:
    conversation = await an_open_conversation(database)
    await asyncio.gather(*(said(database, conversation.conversation_id, f"{n} a", f"{n} b") for n in range(50)))
    query = PageQuery(conversation_id=conversation.conversation_id, cursor=0, limit=200, order=Order.FORWARD)
    items = await StoredTranscript(database.reader).page(WORKSPACE, query)
    assert [item.sequence for item in items] == list(range(1, 101))
    assert {item.text.split()[0] for item in items[::2]} == {str(n) for n in range(50)}


async def test_pages_go_both_ways_from_a_cursor(database: Database) -> None:
    conversation = await an_open_conversation(database)
    await said(database, conversation.conversation_id, *(f"text {n}" for n in range(1, 11)))
    transcript = StoredTranscript(database.reader)

    async def page(cursor: int, order: Order) -> list[int]:
        query = PageQuery(conversation_id=conversation.conversation_id, cursor=cursor, limit=3, order=order)
        return [item.sequence for item in await transcript.page(WORKSPACE, query)]

    assert await page(2**62, Order.BACKWARD) == [10, 9, 8]
    assert await page(8, Order.BACKWARD) == [7, 6, 5]
    assert await page(8, Order.FORWARD) == [9, 10]
    assert await page(10, Order.FORWARD) == []


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("中文", ["用GPT写中文报告", "我们说中文"]),
        ("说中文", ["我们说中文"]),
        ("文", ["用GPT写中文报告", "我们说中文"]),
        ("说中", ["我们说中文"]),
        ("们中", []),
        ("東京", ["東京タワーへ行く"]),
        ("タワー", ["東京タワーへ行く"]),
        ("한국", ["한국어를 배워요"]),
        ("한국어를", ["한국어를 배워요"]),
        ("invoice 42", ["The invoice number is 42."]),
        ("INVOICE", ["The invoice number is 42."]),
        ("invoic", []),
        ("Ｉｎｖｏｉｃｅ", ["The invoice number is 42."]),
        ("straße", ["Straße"]),
        ("GPT中文", ["用GPT写中文报告"]),
        ("GPT 报告", ["用GPT写中文报告"]),
        ('" OR scope:* NEAR(', []),
        ("", []),
        ("?!", []),
    ],
)
async def test_a_search_finds_words_in_every_script(database: Database, query: str, texts: list[str]) -> None:
    conversation = await an_open_conversation(database)
    await said(
        database,
        conversation.conversation_id,
        "我们说中文",
        "東京タワーへ行く",
        "한국어를 배워요",
        "The invoice number is 42.",
        "Straße",
        "用GPT写中文报告",
    )
    assert await found(database, query) == texts


async def test_a_search_stays_in_its_conversation_and_workspace(database: Database) -> None:
    one = await an_open_conversation(database)
    two = await an_open_conversation(database)
    await said(database, one.conversation_id, "shared word, first")
    await said(database, two.conversation_id, "shared word, second")
    assert await found(database, "shared", one.conversation_id) == ["shared word, first"]
    assert await found(database, "shared") == ["shared word, second", "shared word, first"]
    other = SearchQuery(text="shared", limit=9)
    assert await StoredTranscript(database.reader).search("other", other) == []


async def test_a_search_filters_by_role_and_time(database: Database) -> None:
    conversation = await an_open_conversation(database)
    await said(database, conversation.conversation_id, "alpha from a person")
    await said(database, conversation.conversation_id, "alpha from an agent", role=Role.ASSISTANT)
    assert await found(database, "alpha", roles=frozenset({"assistant"})) == ["alpha from an agent"]
    assert await found(database, "alpha", before_time=1) == []
    assert await found(database, "alpha", kinds=frozenset({"notice"})) == []


async def test_an_edited_item_keeps_its_place_and_is_found_by_its_new_words(database: Database) -> None:
    conversation = await an_open_conversation(database)
    item_id, _ = await said(database, conversation.conversation_id, "old words", "next")
    await database.writer.run(lambda tx: replace_item(tx, WORKSPACE, item_id, "new words", b"new"))
    item = await StoredTranscript(database.reader).item(WORKSPACE, item_id)
    assert (item.sequence, item.text, item.content, item.edit_time > 0) == (1, "new words", b"new", True)
    assert (await found(database, "old"), await found(database, "new")) == ([], ["new words"])


async def test_a_redacted_item_keeps_its_place_and_nothing_else(database: Database) -> None:
    conversation = await an_open_conversation(database)
    (item_id,) = await said(database, conversation.conversation_id, "a secret")
    await database.writer.run(lambda tx: redact_item(tx, WORKSPACE, item_id))
    item = await StoredTranscript(database.reader).item(WORKSPACE, item_id)
    assert (item.sequence, item.text, item.content, item.redact_time > 0) == (1, "", b"", True)
    assert await found(database, "secret") == []


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        await StoredTranscript(database.reader).item(WORKSPACE, "msg_0")
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: append_items(tx, WORKSPACE, "cnv_0", [an_item("x")]))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: redact_item(tx, WORKSPACE, "msg_0"))


async def test_a_fork_has_the_items_so_far_and_goes_its_own_way(database: Database) -> None:
    old = await an_open_conversation(database)
    ids = await said(database, old.conversation_id, "first words", "second words", "third words")
    await database.writer.run(lambda tx: redact_item(tx, WORKSPACE, ids[0]))
    new = await an_open_conversation(database)

    def fork(tx: Transaction) -> int:
        return copy_items(tx, WORKSPACE, old.conversation_id, new.conversation_id, until=2)

    assert await database.writer.run(fork) == 2
    await said(database, new.conversation_id, "other words")
    query = PageQuery(conversation_id=new.conversation_id, cursor=0, limit=9, order=Order.FORWARD)
    items = await StoredTranscript(database.reader).page(WORKSPACE, query)
    assert [(item.sequence, item.text) for item in items] == [(1, ""), (2, "second words"), (3, "other words")]
    assert items[0].redact_time > 0
    assert not {item.item_id for item in items} & set(ids)
    assert await found(database, "words", new.conversation_id) == ["other words", "second words"]
    assert await found(database, "words", old.conversation_id) == ["third words", "second words"]
    with pytest.raises(NotFound):
        await database.writer.run(fork)
