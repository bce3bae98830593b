from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.web_chat.web import Web, web_chat
from tests.fakes.chat_host import ChatHost, chat_host


@pytest.fixture
async def host() -> AsyncIterator[ChatHost]:
    async with chat_host() as running:
        yield running


@pytest.fixture
async def web(host: ChatHost, tmp_path: Path) -> AsyncIterator[Web]:
    async with web_chat(host, tmp_path) as running:
        yield running
