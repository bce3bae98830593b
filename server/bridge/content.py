"""Answers of tools as MCP has them: blocks for the model, a structured copy for programs, failures with a reason."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from portway.rpc.errors import PayloadTooLarge, PortwayError
from portway.server.bridge.calls import BridgeCalls
from portway.server.runner_calls.scope import RunScope
from portway.server.tools.wire import dict_of
from portway.v1 import content_pb2
from portway.v1 import run_pull_pb2 as pb

# The first version that has links to resources, and structured content.
_LINKS_SINCE = "2025-06-18"
_AUDIO_SINCE = "2025-03-26"
MAX_INLINE_BYTES = 1024 * 1024
ARTIFACTS, FILES = "portway://artifacts/", "portway://files/"

Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answers. `structured` is a JSON object, or nothing."""

    blocks: Sequence[Block]
    structured: Mapping[str, Any] = field(default_factory=dict)
    is_error: bool = False

    def body(self, version: str, most: int) -> Mapping[str, Any]:
        """As the result of `tools/call`. Raises PayloadTooLarge."""
        blocks = [_in_version(one, version) for one in self.blocks]
        result: dict[str, Any] = {"content": blocks, "isError": self.is_error}
        if self.structured and version >= _LINKS_SINCE:
            result["structuredContent"] = self.structured
        if len(json.dumps(result)) > most:
            raise PayloadTooLarge(f"the answer has more than {most} bytes; ask for less at a time")
        return result


def text(said: str) -> Block:
    return {"type": "text", "text": said}


def document(value: Mapping[str, Any]) -> Answer:
    """A JSON object, which programs read as it is and models as text."""
    return Answer((text(json.dumps(value, ensure_ascii=False)),), value)


def plain(message: Message) -> dict[str, Any]:
    """A message of the contract, named as there. Whole numbers of an author's own objects are whole again."""
    return MessageToDict(message, preserving_proto_field_name=True)


def failure(error: PortwayError) -> Answer:
    """A failure that the model may do something about: the reason first, then what happened and what to do."""
    told: dict[str, Any] = {"reason": str(error.reason), "message": error.message}
    if error.fields:
        told["fields"] = [{"field": one.field, "description": one.description} for one in error.fields]
    if error.retry_after is not None:
        told["retry_after_seconds"] = error.retry_after
    return Answer((text(f"{error.reason}: {error.message}"),), {"error": told}, is_error=True)


async def of_result(calls: BridgeCalls, run: RunScope, result: pb.ToolResult) -> Answer:
    """Text, pictures and sounds that are small enough, and links to all files."""
    blocks = [text(result.text)] if result.text or not result.artifacts else []
    for ref in result.artifacts:
        shown = await _shown(calls, run, ref)
        if shown is not None:
            blocks.append(shown)
        blocks.append(link(ref, ARTIFACTS))
    return Answer(blocks, dict_of(result.data), result.is_error)


def link(ref: content_pb2.ArtifactRef, place: str) -> Block:
    """A file that can be read as a resource."""
    block = {
        "type": "resource_link",
        "uri": f"{place}{ref.artifact_id}",
        "name": ref.name or ref.artifact_id,
        "mimeType": ref.mime_type,
        "size": ref.size,
    }
    return block | ({"description": ref.summary} if ref.summary else {})


async def _shown(calls: BridgeCalls, run: RunScope, ref: content_pb2.ArtifactRef) -> Block | None:
    """None for what models see no picture or sound of, and where the run may not read artifacts."""
    kind = ref.mime_type.partition("/")[0]
    if kind not in ("image", "audio") or not 0 < ref.size <= MAX_INLINE_BYTES:
        return None
    if "artifacts_read" not in run.snapshot.permissions.allowed:
        return None
    request = pb.RunnerServiceReadArtifactRequest(artifact_id=ref.artifact_id, length=ref.size)
    data = await calls.bytes(run, "read_artifact", request, MAX_INLINE_BYTES)
    return {"type": kind, "data": base64.b64encode(data).decode(), "mimeType": ref.mime_type}


def _in_version(block: Block, version: str) -> Block:
    """What an older client does not know is told as text."""
    kind = block["type"]
    if kind == "resource_link" and version < _LINKS_SINCE:
        return text(f"[file {block['name']}, {block['mimeType']}, {block['size']} bytes: {block['uri']}]")
    if kind == "audio" and version < _AUDIO_SINCE:
        return text(f"[sound, {block['mimeType']}]")
    return block
