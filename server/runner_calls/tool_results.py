"""What of a tool's result reaches the run as it is, and what becomes an artifact that it refers to."""

import json
from dataclasses import replace

from google.protobuf import struct_pb2

from portway.rpc.errors import LimitExceeded, PortwayError
from portway.server.artifacts.store import add_artifact
from portway.server.artifacts.types import NewArtifact
from portway.server.artifacts.wire import artifact_ref
from portway.server.provenance.mark import tool_creator, tool_source
from portway.server.runner_calls.artifacts import ArtifactCalls
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import check_fence
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.tools.types import ToolFile, ToolResult
from portway.server.tools.wire import dict_of, result_to_wire
from portway.v1 import content_pb2
from portway.v1 import run_pull_pb2 as pb

MAX_TEXT_BYTES = 64 * 1024
MAX_DATA_BYTES = 256 * 1024
MAX_FILE_BYTES = 16 * 1024 * 1024
_HEAD_SHARE = 0.6


class ResultKeeper:
    """Keeps a result's files, its text where that is long, and its data where that is large."""

    def __init__(self, writer: Writer, artifacts: ArtifactCalls, blobs: Blobs) -> None:
        self._writer = writer
        self._artifacts = artifacts
        self._blobs = blobs

    async def keep(self, run: RunScope, tool: str, call_id: str, result: ToolResult) -> pb.ToolResult:
        """Raises Stale for an attempt that was superseded. What cannot be kept is told in the text."""
        message = result_to_wire(result)
        message.provenance.CopyFrom(tool_source(tool, call_id, run.run_id))
        stem = tool.rpartition("/")[2] or "tool"
        for file in result.files:
            await self._add(run, message, file)
        if message.data.ByteSize() > MAX_DATA_BYTES:
            whole = _json(message.data)
            message.data.Clear()
            await self._add(run, message, ToolFile(f"{stem}.json", "application/json", whole))
        encoded = message.text.encode()
        if len(encoded) > MAX_TEXT_BYTES:
            message.text = ""
            kept = await self._add(run, message, ToolFile(f"{stem}.txt", "text/plain", encoded))
            message.text = _shortened(encoded, kept) + message.text
        return message

    async def _add(self, run: RunScope, message: pb.ToolResult, file: ToolFile) -> content_pb2.ArtifactRef | None:
        try:
            made = await self._new(run, file)
        except PortwayError as error:
            message.text += f"\n[the file {file.name} could not be kept: {error.message}]"
            return None
        source = message.provenance
        artifact = replace(made, creator=tool_creator(source.id, source.call_id))

        def unit(tx: Transaction) -> None:
            check_fence(tx, run.fence)
            add_artifact(tx, artifact)

        await self._writer.run(unit)
        ref = artifact_ref(artifact)
        message.artifacts.append(ref)
        return ref

    async def _new(self, run: RunScope, file: ToolFile) -> NewArtifact:
        if len(file.content) > MAX_FILE_BYTES:
            raise LimitExceeded(f"it has {len(file.content)} bytes, and a tool's file at most {MAX_FILE_BYTES}")
        blob = await self._blobs.put(run.workspace_id, file.content)
        wanted = content_pb2.ArtifactRef(name=file.name, mime_type=file.mime_type)
        return self._artifacts.rules(run).new(wanted, blob.size, blob.sha256)


def _shortened(text: bytes, kept: content_pb2.ArtifactRef | None) -> str:
    head = round(MAX_TEXT_BYTES * _HEAD_SHARE)
    before, after = text[:head], text[head - MAX_TEXT_BYTES :]
    where = f"; the whole is the artifact {kept.artifact_id}" if kept is not None else ""
    left_out = len(text) - MAX_TEXT_BYTES
    gap = f"\n[… {left_out} bytes left out{where} …]\n"
    return before.decode(errors="ignore") + gap + after.decode(errors="ignore")


def _json(data: struct_pb2.Struct) -> bytes:
    return json.dumps(dict_of(data), ensure_ascii=False).encode()
