"""What a tool of a server returned: text for the model, structured data, and files."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

import mcp_types

from portway.server.tools.types import ToolFile, ToolResult

MAX_FILES = 32
MAX_STRUCTURED_BYTES = 256 * 1024


def result_of(result: mcp_types.CallToolResult) -> ToolResult:
    """Text parts are joined; what is no text becomes a file with a line in its place."""
    texts: list[str] = []
    files: list[ToolFile] = []
    for block in result.content:
        texts.append(_text_of(block, files))
    data: Mapping[str, object] = {}
    structured = result.structured_content
    if structured is not None:
        written = json.dumps(structured, ensure_ascii=False)
        if len(written.encode()) > MAX_STRUCTURED_BYTES:
            _add(files, ToolFile("structured.json", "application/json", written.encode()), texts)
        else:
            data = structured if isinstance(structured, dict) else {"value": structured}
            if not result.content:
                texts.append(written)
    return ToolResult("\n".join(text for text in texts if text), data, result.is_error, files=tuple(files))


def _text_of(block: mcp_types.ContentBlock, files: list[ToolFile]) -> str:
    lines: list[str] = []
    match block:
        case mcp_types.TextContent():
            return block.text
        case mcp_types.ImageContent() | mcp_types.AudioContent():
            _add_encoded(files, block.type, block.mime_type, block.data, lines)
        case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents() as resource):
            return resource.text
        case mcp_types.EmbeddedResource(resource=mcp_types.BlobResourceContents() as resource):
            name = str(resource.uri).rpartition("/")[2] or "resource"
            _add_encoded(files, name, resource.mime_type or "application/octet-stream", resource.blob, lines)
        case mcp_types.ResourceLink():
            # Only its server can read it; the model is told that it exists.
            return f"[resource {block.name}: {block.uri}]"
    return "\n".join(lines)


def _add_encoded(files: list[ToolFile], name: str, mime_type: str, encoded: str, lines: list[str]) -> None:
    try:
        content = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        lines.append(f"[{name}: it could not be decoded]")
        return
    _add(files, ToolFile(name, mime_type, content), lines)


def _add(files: list[ToolFile], file: ToolFile, lines: list[str]) -> None:
    if len(files) >= MAX_FILES:
        lines.append(f"[{file.name}: left out, a result has at most {MAX_FILES} files]")
        return
    files.append(file)
    lines.append(f"[file {file.name}, {file.mime_type}, {len(file.content)} bytes]")
