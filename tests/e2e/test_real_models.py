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
    suffix = "" if kind == "anthropic" else "/v1"
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


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini", "ollama"])
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


async def test_models_are_set_up_tried_priced_and_removed_by_the_command_line(tmp_path: Path) -> None:
    async with start_aimock(FIXTURES) as mock, started(tmp_path, OUTBOUND__PRIVATE_HOSTS="[127.0.0.1]") as stack:
        secret = (mock.api_key + "\n").encode()
        address = f"{mock.base_url}/v1"

        async def portway(*arguments: str, stdin: bytes | None = None, code: int = 0) -> str:
            ended = await stack.portway("model", *arguments, stdin=stdin)
            assert ended.code == code, ended
            return ended.out + ended.err

        await portway("add-provider", "mock", "--base-url", address, stdin=secret)
        await portway("add", "written", "mock", "--name", "gpt-4o-mini", "--tools", "--default")
        await portway("add", "vectors", "mock", "--type", "embedding", "--name", "text-embedding-3-small")
        assert "Hello from the mock." in await portway("test", "written")
        assert "a vector of" in await portway("test", "vectors")
        listed = await portway("list")
        assert all(name in listed for name in ("written", "vectors", "demo-rerank"))
        async with stack.client() as host:
            seen = [item async for item in host.chat("tell me a story", conversation_id="cli")]
            failed = [item async for item in host.chat("be overloaded", conversation_id="limited")]
        assert isinstance(seen[-1], Finished) and seen[-1].reply is not None
        assert "Once upon a time" in seen[-1].reply.content
        assert isinstance(failed[-1], Finished)
        assert failed[-1].run.error.code == "model.rate_limited"
        await portway("key", "mock", stdin=b"a-wrong-key\n")
        assert "model.auth" in await portway("test", "written", code=1)
        assert "is the default" in await portway("remove", "written", code=1)
        await portway("remove", "vectors")
        assert "written" in await portway("remove-provider", "mock", code=1)
        shown = await portway("providers")
        log = (tmp_path / "up.log").read_text(encoding="utf-8")
        for text in (mock.api_key, "a-wrong-key", "tell me a story"):
            assert text not in shown + log
