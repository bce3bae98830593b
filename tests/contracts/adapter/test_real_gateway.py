"""The kit against the host's own gateway and database, where the scripted host could be kinder than the real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contracts.adapter.under_test import Chat, KitAdapter, kit_adapter
from tests.fakes.adapter_host import AdapterHost, adapter_host
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Known:
    """Where the host is, and a token for it."""

    address: str
    token: str


@asynccontextmanager
async def connected(host: AdapterHost, folder: Path, chat: Chat) -> AsyncIterator[KitAdapter]:
    async with kit_adapter(Known(host.address, host.tokens.adapter), folder, chat=chat) as adapter:
        await adapter.connected()
        yield adapter


@pytest.mark.parametrize("recognises", [True, False], ids=["recognises repetitions", "does not"])
async def test_messages_are_answered_once_over_restarts_of_the_host(tmp_path: Path, recognises: bool) -> None:
    chat = Chat(recognises=recognises)
    async with adapter_host(tmp_path) as host:
        address = host.address
        async with connected(host, tmp_path, chat) as adapter:
            await adapter.say("before", "key-00001")
            await until(lambda: len(chat.messages) == 1)
    async with adapter_host(tmp_path, address) as host, connected(host, tmp_path, chat) as adapter:
        await asyncio.gather(*(adapter.say(f"m{number}", f"key-1000{number}") for number in range(5)))
        await adapter.say("before", "key-00001")
        await until(lambda: len(chat.messages) == 6)
    assert adapter.shown() == ["echo: before", *(f"echo: m{number}" for number in range(5))]


async def test_what_an_adapter_did_before_it_died_is_known_to_the_next(tmp_path: Path) -> None:
    chat = Chat(recognises=False)
    async with adapter_host(tmp_path) as host:
        chat.hold_answer = asyncio.Event()
        async with connected(host, tmp_path, chat) as adapter:
            await adapter.say("hello", "key-00001")
            await until(lambda: chat.calls == 1)
        chat.hold_answer = None
    async with adapter_host(tmp_path) as host, connected(host, tmp_path, chat) as adapter:
        await adapter.say("and again", "key-00002")
        await until(lambda: len(chat.messages) == 2)
    assert adapter.shown() == ["echo: hello", "echo: and again"]
    assert chat.calls == 2
