"""The conversation between the page and the process that serves it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import websockets

from portway.v1 import adapter_pb2, content_pb2
from tests.adapters.web_chat.web import CHAT, Page, Web, web_chat
from tests.fakes.chat_host import ChatHost
from tests.waiting import until


def written(frames: list[dict[str, Any]]) -> str:
    """The text that a page shows after these frames of one run."""
    blocks: dict[int, str] = {}
    for frame in frames:
        if frame["fresh"]:
            blocks.clear()
        for block in frame["blocks"]:
            if "append" in block:
                blocks[block["i"]] += block["append"]
            elif block["type"] == "text":
                blocks[block["i"]] = block["text"]
    return "".join(blocks.values())


async def run_frames(page: Page, run: str) -> list[dict[str, Any]]:
    """All frames of a run until it has ended."""
    frames: list[dict[str, Any]] = []
    while not frames or "ended" not in frames[-1]:
        frames.append(await page.next("run", run=run))
    return frames


async def test_a_page_is_greeted_with_what_it_may_do(web: Web) -> None:
    async with web.page() as page:
        assert page.ready["limits"] == {"upload": 20 * 1024 * 1024, "text": 256 * 1024, "files": 10}
        assert page.ready["host"]["state"] in ("connected", "connecting")


async def test_an_answer_is_written_piece_by_piece_and_then_stands_in_the_transcript(web: Web) -> None:
    reached, go_on = web.host.script.hold("middle")
    async with web.page() as page:
        assert (await page.open())["items"] == []
        ack = await page.say("one two three four", "key-00001")
        await reached.wait()
        first = await page.next("run", run=ack["run"])
        go_on.set()
        frames = [first, *await run_frames(page, ack["run"])]
        items = await page.items_until(2)
        await page.next("gone", run=ack["run"])
    assert written(frames) == "You said: one two three four"
    assert [(item["role"], item["text"]) for item in items] == [
        ("user", "one two three four"),
        ("assistant", "You said: one two three four"),
    ]
    assert items[0]["id"] == ack["message"]
    assert items[1]["run"] == ack["run"]


async def test_the_same_key_again_is_the_same_message(web: Web) -> None:
    async with web.page() as page:
        first = await page.say("hello", "key-00001")
        again = await page.say("hello", "key-00001")
    async with web.page() as other:
        later = await other.say("hello", "key-00001")
    assert (first["duplicate"], again["duplicate"], later["duplicate"]) == (False, True, True)
    assert first["run"] == again["run"] == later["run"]
    assert len(web.host.store.events) == 1


async def test_pages_on_one_conversation_stay_in_step(web: Web) -> None:
    reached, go_on = web.host.script.hold("middle")
    async with web.page() as writer, web.page() as reader:
        await writer.open()
        await reader.open()
        ack = await writer.say("one two three", "key-00001")
        await reached.wait()
        seen = [await reader.next("run", run=ack["run"])]
        async with web.page() as late:
            # Whoever comes while it is written sees what was written so far.
            await late.open()
            late_frames = [await late.next("run", run=ack["run"])]
            go_on.set()
            late_frames += await run_frames(late, ack["run"])
        seen += await run_frames(reader, ack["run"])
        items = await reader.items_until(2)
    assert written(seen) == written(late_frames) == "You said: one two three"
    assert [item["text"] for item in items] == ["one two three", "You said: one two three"]


async def test_a_page_that_comes_back_gets_exactly_what_it_missed(web: Web) -> None:
    async with web.page() as page:
        await page.open()
        ack = await page.say("first", "key-00001")
        await page.next("gone", run=ack["run"])
        after = (await page.next("items"))["after"]
        while len(after) and not after.endswith("-2"):
            after = (await page.next("items"))["after"]
    async with web.page() as elsewhere:
        await elsewhere.open()
        ack = await elsewhere.say("second", "key-00002")
        await elsewhere.next("gone", run=ack["run"])
    async with web.page() as page:
        missed = await page.open(after=after)
    assert missed["reset"] is False
    assert [item["text"] for item in missed["items"]] == ["second", "You said: second"]


async def test_a_page_with_a_place_that_the_host_does_not_know_begins_again(web: Web) -> None:
    async with web.page() as page:
        await page.open()
        ack = await page.say("first", "key-00001")
        await page.next("gone", run=ack["run"])
        again = await page.open(after="a cursor of another life")
    assert again["reset"] is True
    assert len(again["items"]) == 2


async def test_pages_begin_again_when_the_host_comes_back_with_other_data(web: Web) -> None:
    async with web.page() as page:
        opened = await page.open()
        ack = await page.say("first", "key-00001")
        await page.next("gone", run=ack["run"])
        await web.host.kill()
        # As after a restore: other messages, and places that the page's cursors do not know.
        web.host.store.items.clear()
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text="restored"))
        web.host.store.add_item(CHAT, content_pb2.MESSAGE_ROLE_USER, [part]).cursor = "cursor of the restored"
        await web.host.start()
        await page.next("resync")
        again = await page.open(after="cursor-of-the-old-data")
    assert opened["items"] == []
    assert again["reset"] is True
    assert [item["text"] for item in again["items"]] == ["restored"]


async def test_a_long_conversation_is_read_page_by_page(web: Web) -> None:
    for number in range(120):
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text=f"m{number}"))
        web.host.store.add_item(CHAT, content_pb2.MESSAGE_ROLE_USER, [part])
    async with web.page() as page:
        shown = await page.open()
        texts = [item["text"] for item in shown["items"]]
        before = shown["before"]
        while before:
            await page.send("older", c=CHAT, before=before)
            older = await page.next("older")
            texts = [item["text"] for item in older["items"]] + texts
            before = older["before"]
    assert texts == [f"m{number}" for number in range(120)]


async def test_a_run_is_stopped_and_people_are_told(web: Web) -> None:
    reached, _ = web.host.script.hold("middle")
    async with web.page() as page:
        await page.open()
        ack = await page.say("a long story", "key-00001")
        await reached.wait()
        await page.send("cancel", run=ack["run"])
        await page.next("cancelled", run=ack["run"])
        items = await page.items_until(2)
    assert [(item["kind"], item["text"]) for item in items] == [("message", "a long story"), ("notice", "Stopped.")]


async def test_a_run_of_another_platform_cannot_be_stopped(web: Web) -> None:
    _, go_on = web.host.script.hold("begin")
    async with web.page() as page:
        ack = await page.say("hello", "key-00001")
        run = web.host.store.runs[ack["run"]]
        run.run.conversation_id = "telegram-7"
        await page.send("cancel", run=ack["run"])
        error = await page.next("error", about="cancel")
    assert error["code"] == "NOT_FOUND"
    assert not run.cancelled.is_set()
    go_on.set()


async def test_conversations_are_listed_with_the_last_first(web: Web) -> None:
    async with web.page() as page:
        for number in (1, 2):
            ack = await page.say(f"topic {number}", f"key-0000{number}", f"web-conversation{number}")
        await until(lambda: not web.host.store.runs[ack["run"]].open)
        await page.send("list")
        listed = await page.next("list")
    assert [one["title"] for one in listed["conversations"]] == ["topic 2", "topic 1"]


async def test_what_the_host_refuses_comes_back_with_the_reason(web: Web) -> None:
    for retryable in (False, True):
        refusal = adapter_pb2.AdapterEventAck()
        refusal.error.code, refusal.error.message, refusal.error.retryable = "NO_BINDING", "bind an agent", retryable
        web.host.faults.refuse_events.append(refusal)
    async with web.page() as page:
        await page.send("send", key="key-00001", c=CHAT, text="hello")
        for_good = await page.next("refused")
        await page.send("send", key="key-00002", c=CHAT, text="hello")
        for_now = await page.next("refused")
    assert (for_good["code"], for_good["message"], for_good["retry"]) == ("NO_BINDING", "bind an agent", False)
    assert for_now["retry"] is True


async def test_while_the_host_is_away_pages_are_told_and_messages_wait(web: Web) -> None:
    async with web.page() as page:
        await page.open()
        await web.host.kill()
        away = await page.next("host", state="connecting")
        assert away["detail"]
        await page.send("open", c=CHAT, after="")
        error = await page.next("error", about="open")
        assert error["retry"] is True
        await page.send("send", key="key-00001", c=CHAT, text="hello")
        await web.host.start()
        await page.next("host", state="connected")
        ack = await page.next("ack", key="key-00001")
        await page.next("gone", run=ack["run"])
    assert web.host.store.final_messages(CHAT) == ["You said: hello"]


async def test_a_transcript_that_cannot_be_read_for_a_moment_is_read_later(web: Web) -> None:
    async with web.page() as page:
        await page.open()
        web.host.faults.unreadable = True
        await page.say("hello", "key-00001")
        await until(lambda: web.host.store.outcomes != {})
        web.host.faults.unreadable = False
        items = await page.items_until(2)
    assert [item["text"] for item in items] == ["hello", "You said: hello"]
    outcomes = [result.outcome for results in web.host.store.outcomes.values() for result in results]
    assert outcomes[0] == adapter_pb2.DELIVERY_OUTCOME_RETRYABLE


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("no json", "INVALID_FIELD"),
        ("[1]", "INVALID_FIELD"),
        ('{"t":"shutdown"}', "INVALID_FIELD"),
        ('{"t":"open"}', "INVALID_FIELD"),
        ('{"t":"open","c":"telegram-12345678"}', "INVALID_FIELD"),
        ('{"t":"open","c":"web-0123456789abcdef","after":7}', "INVALID_FIELD"),
        ('{"t":"send","key":"k","c":"web-0123456789abcdef","text":"x"}', "INVALID_FIELD"),
        ('{"t":"send","key":"key-00001","c":"web-0123456789abcdef","text":"  "}', "INVALID_FIELD"),
        ('{"t":"send","key":"key-00001","c":"web-0123456789abcdef","text":"x","files":[7]}', "INVALID_FIELD"),
        ('{"t":"cancel","run":"../x"}', "INVALID_FIELD"),
        (json.dumps({"t": "send", "key": "key-00001", "c": CHAT, "text": "x" * 300_000}), "PAYLOAD_TOO_LARGE"),
        ("[" * 100_000, "INVALID_FIELD"),
    ],
    ids=range(12),
)
async def test_a_frame_that_the_page_would_never_send_is_an_error_and_no_end(web: Web, frame: str, code: str) -> None:
    async with web.page() as page:
        await page.socket.send(frame)
        assert (await page.next("error"))["code"] == code
        await page.open()
    assert web.host.store.events == {}


async def test_half_a_character_does_not_break_the_message(web: Web) -> None:
    async with web.page() as page:
        await page.socket.send(json.dumps({"t": "send", "key": "key-00001", "c": CHAT, "text": "cut \ud83d emoji"}))
        await page.next("ack")
    assert [item.content for item in web.host.store.items[CHAT]][0] == "cut ? emoji"


async def test_a_frame_beyond_the_limit_ends_the_connection(web: Web) -> None:
    async with web.page() as page:
        await page.socket.send("x" * (2 * 1024 * 1024))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await page.next("error")
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


async def test_pages_are_counted_and_one_too_many_is_turned_away(host: ChatHost, tmp_path: Path) -> None:
    async with web_chat(host, tmp_path, max_connections=2) as web:
        async with web.page(), web.page():
            with pytest.raises(websockets.InvalidStatus):
                async with web.page():
                    pass
        async with web.page() as again:
            assert again.ready["t"] == "ready"


async def test_a_page_that_reads_slowly_gets_joined_text_and_holds_up_nobody(web: Web) -> None:
    text = "say: " + "word " * 5000
    async with web.page() as slow, web.page() as quick:
        await slow.open()
        await quick.open()
        ack = await quick.say(text.strip(), "key-00001")
        quick_frames = await run_frames(quick, ack["run"])
        slow_frames = await run_frames(slow, ack["run"])
    assert written(quick_frames) == written(slow_frames) == text[5:].strip()
    assert len(slow_frames) < 1000


async def test_attachments_reach_the_host_as_parts_of_the_message(web: Web) -> None:
    async with web.client() as browser:
        made = (
            await browser.post("/api/uploads?name=a.png", content=b"png", headers={"Content-Type": "image/png"})
        ).json()
    async with web.page() as page:
        await page.open()
        await page.say("look", "key-00001", files=[made])
        items = await page.items_until(1)
    assert items[0]["files"] == [made]
    parts = web.host.store.items[CHAT][0].parts
    assert [part.WhichOneof("kind") for part in parts] == ["text", "image"]
    assert parts[1].image.artifact.artifact_id == made["id"]


async def test_pages_are_told_to_come_back_when_the_process_stops(host: ChatHost, tmp_path: Path) -> None:
    async with web_chat(host, tmp_path) as web:
        waiting = asyncio.ensure_future(_until_closed(web))
        await until(lambda: host.connections.current is not None)
        await asyncio.sleep(0)
        async with web.page():
            pass
    assert await waiting == 1012


async def _until_closed(web: Web) -> int:
    async with web.page() as page:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            while True:
                await page.next("never")
    return closed.value.rcvd.code if closed.value.rcvd else 0
