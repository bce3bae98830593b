"""Vendors' wire formats through the whole path, against the mock that the vendors' own SDKs are tested with."""

from pathlib import Path

import pytest

from portway.clients.host import Finished
from portway.clients.run_view import TextAdded, ToolDone
from portway.v1 import run_pb2
from tests.e2e.stack import started
from tests.peers.aimock import start_aimock

pytestmark = pytest.mark.heavy

FIXTURES = Path(__file__).parent / "models.json"


def config(kind: str, base_url: str, key: str) -> str:
    suffix = "/v1" if kind == "openai" else ""
    return f"""
models:
  default: mocked
  providers:
    mock:
      kind: {kind}
      base_url: {base_url}{suffix}
      api_key: {key}
      models: [{{id: mocked, name: some-model}}]
"""


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_streaming_and_tool_calls_work_through_the_whole_path(tmp_path: Path, kind: str) -> None:
    async with start_aimock(FIXTURES, "--latency", "20", "--chunk-size", "10") as mock:
        async with started(tmp_path, config=config(kind, mock.base_url, mock.api_key)) as stack:
            async with stack.client() as host:
                texts: list[str] = []
                async for item in host.chat("tell me a story", conversation_id="story"):
                    if isinstance(item, TextAdded):
                        texts.append(item.text)
                tools: list[str] = []
                finished = None
                async for item in host.chat("count the lines please", conversation_id="tools"):
                    if isinstance(item, ToolDone):
                        tools.append(item.call.result_text)
                    if isinstance(item, Finished):
                        finished = item
            assert mock.api_key not in (tmp_path / "up.log").read_text(encoding="utf-8")
        asked = await mock.requests()
    assert len(texts) > 3
    assert "Once upon a time" in "".join(texts)
    assert tools[0].endswith("one\ntwo\nthree")
    assert finished is not None and finished.reply is not None
    assert finished.run.state == run_pb2.RUN_STATE_COMPLETED
    assert "There are three lines" in finished.reply.content
    assert len(asked) == 3
