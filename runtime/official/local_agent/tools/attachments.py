"""`read_attachment`: a piece of a file of the conversation that is too large to be shown whole."""

from collections.abc import Mapping
from typing import Any

from portway.runtime.official.local_agent.tools.arguments import BadArguments
from portway.runtime.official.local_agent.tools.own import number_argument, text_argument
from portway.runtime.sdk import HostApi, ToolResource, ToolResult

READ_ATTACHMENT = "read_attachment"
USUAL_BYTES, MAX_BYTES = 16_000, 30_000
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The id of the file, as it is told where the file is mentioned."},
        "offset": {"type": "integer", "minimum": 0, "description": "The first byte; 0 if not given."},
        "length": {"type": "integer", "minimum": 1, "maximum": MAX_BYTES, "description": "How many bytes."},
    },
    "required": ["id"],
}


class ReadAttachment:
    """Text files only; the host decides what the run may read."""

    def __init__(self, host: HostApi) -> None:
        self._host = host

    @property
    def shown(self) -> ToolResource:
        about = "Reads a piece of a text file that was attached to a message, or that a tool made."
        return ToolResource(READ_ATTACHMENT, "runner", about, _SCHEMA)

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        artifact_id = text_argument(arguments, "id")
        if not artifact_id:
            raise BadArguments("arguments.id is missing: name the file")
        offset = number_argument(arguments, "offset", 0, 0, 2**50)
        length = number_argument(arguments, "length", USUAL_BYTES, 1, MAX_BYTES)
        file = await self._host.artifacts.get(artifact_id)
        if offset >= file.size:
            return ToolResult(f"the file has {file.size:,} bytes; there is nothing at {offset:,}", is_error=True)
        data = b"".join([piece async for piece in self._host.artifacts.open(artifact_id, offset=offset, length=length)])
        if b"\0" in data:
            return ToolResult(f"{file.name or artifact_id} ({file.mime_type}) is no text file", is_error=True)
        text = data.decode(errors="replace")
        left = file.size - offset - len(data)
        return ToolResult(f"{text}\n[{left:,} bytes follow; go on at {offset + len(data)}]" if left > 0 else text)
