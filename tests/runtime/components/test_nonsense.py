"""What becomes of a program that gets the contract of components wrong: a refusal by name, and the next call works."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from portway.rpc.errors import InternalError, InvalidInput, LimitExceeded, NotFound, PayloadTooLarge, PortwayError
from portway.rpc.status import error_from_rpc
from portway.runtime.kit.components.end import ComponentEnd
from portway.runtime.kit.components.trying import refusal
from portway.runtime.kit.subject import Subject, live
from portway.v1 import component_pb2 as pb
from portway.v1 import run_pull_pb2, runtime_pb2
from tests.waiting import until

HERE = Path(__file__).parent
MANIFEST = "author: test\nname: nonsense\nversion: 1.0.0\nexecute: {command: [./run]}\n"
TOOL = "kind: Tool\nname: plain\ndescription: Gets it wrong.\nidempotency: idempotent\nlimits: {timeout: 20s}\n"
PARSER = "kind: Parser\nname: parser\nmedia_types: [text/plain]\nlimits: {input_mb: 1, output_mb: 2}\n"


@pytest.fixture
async def subject(tmp_path: Path) -> AsyncIterator[Subject]:
    folder = tmp_path / "nonsense"
    (folder / "components").mkdir(parents=True)
    (folder / "manifest.yaml").write_text(MANIFEST)
    (folder / "components" / "plain.yaml").write_text(TOOL)
    (folder / "components" / "parser.yaml").write_text(PARSER)
    (folder / "run").write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'nonsense.py'}\n")
    (folder / "run").chmod(0o755)
    async with live("test/nonsense/plain", folder, tmp_path / "data") as running:
        yield running


async def called(subject: Subject, word: str) -> run_pull_pb2.ToolResult:
    request = runtime_pb2.RuntimeServiceCallToolRequest(name="test/nonsense/plain")
    request.arguments["word"] = word
    last = run_pull_pb2.ToolResult()
    try:
        async for event in subject.stub.CallTool(request):
            last = event.result
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None
    return last


async def test_a_tool_that_answers_nonsense_is_refused_by_name(subject: Subject) -> None:
    wrong: dict[str, type[PortwayError]] = {
        "malformed": InternalError,
        "no_result": InternalError,
        "after_result": InternalError,
        "oversize": PayloadTooLarge,
        "huge": PayloadTooLarge,
        "flood": PayloadTooLarge,
    }
    for word, meaning in wrong.items():
        error = await refusal(word, called(subject, word), meaning)
        assert "test/nonsense" in error.message
        assert (await called(subject, "ok")).text == "done"


def parser(subject: Subject) -> ComponentEnd:
    return ComponentEnd(subject.host.channel, "Parser", "test/nonsense/parser")


async def test_a_component_that_says_nonsense_is_refused_by_name(subject: Subject) -> None:
    wrong: dict[str, type[PortwayError]] = {
        "malformed": InternalError,
        "no_result": InternalError,
        "after_result": InternalError,
        "bomb": PayloadTooLarge,
    }
    for word, meaning in wrong.items():
        error = await refusal(word, parser(subject).parse(word, "text/plain", []), meaning)
        assert "test/nonsense" in error.message
        await parser(subject).parse("ok", "text/plain", [])


async def test_a_call_must_begin_with_a_start_of_its_kind(subject: Subject) -> None:
    end = parser(subject)
    async with end.talk(pb.ComponentInputFrame(piece=b"a")) as talk:
        await refusal("no start", talk.result(), InvalidInput)
    retrieve = pb.RetrieveChunks(knowledge_base_id="a", query="b")
    await refusal("an operation of another kind", end.ask(retrieve_chunks=retrieve), InvalidInput)
    other = ComponentEnd(subject.host.channel, "Parser", "test/nonsense/nobody")
    await refusal("a component that is not there", other.parse("ok", "text/plain", []), NotFound)
    same_name = ComponentEnd(subject.host.channel, "KnowledgeEngine", "test/nonsense/parser")
    await refusal("the same id of another kind", same_name.describe("kb"), NotFound)


async def test_only_so_many_calls_wait_for_their_turn(tmp_path: Path) -> None:
    folder = HERE.parents[1] / "contracts" / "component" / "plugins" / "words"
    async with live("tests/words/conformance", folder, tmp_path) as subject:
        request = runtime_pb2.RuntimeServiceCallToolRequest(name="tests/words/conformance")
        request.arguments["word"] = "hang"
        # Eight go on, 64 wait, and one is too many: whichever comes last.
        calls = [subject.stub.CallTool(request) for _ in range(8 + 64 + 1)]
        reading = [asyncio.ensure_future(call.read()) for call in calls]
        await until(lambda: sum(one.done() for one in reading) == 9)
        refused = [one.exception() for one in reading if one.done() and one.exception() is not None]
        for call in calls:
            call.cancel()
        await asyncio.wait(reading)
    (error,) = refused
    assert isinstance(error, grpc.aio.AioRpcError)
    meaning = error_from_rpc(error)
    assert isinstance(meaning, LimitExceeded) and "limits.concurrency" in meaning.message
