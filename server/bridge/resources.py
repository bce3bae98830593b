"""`resources/*`: the run's files, read as resources."""

import base64
from collections.abc import Mapping
from typing import Any

from portway.rpc.errors import NotFound, PayloadTooLarge
from portway.server.bridge.calls import BridgeCalls
from portway.server.bridge.content import ARTIFACTS, FILES, link
from portway.server.runner_calls.scope import RunScope
from portway.v1 import run_pull_pb2 as pb

MAX_LISTED = 200
_TEXTS = ("application/json", "application/xml", "application/yaml", "application/javascript")


class BridgeResources:
    """`most`: bytes of one that is read."""

    def __init__(self, calls: BridgeCalls, most: int) -> None:
        self._calls = calls
        self._most = most

    def listed(self, run: RunScope) -> list[dict[str, Any]]:
        """Files of the agent, and what came with the message."""
        found = [link(one, FILES) for one in run.context.resources.files]
        found += [link(one, ARTIFACTS) for one in run.context.input.attachments]
        return [{name: value for name, value in one.items() if name != "type"} for one in found[:MAX_LISTED]]

    def templates(self) -> list[dict[str, Any]]:
        return [
            {
                "uriTemplate": f"{ARTIFACTS}{{artifact_id}}",
                "name": "artifact",
                "description": "A file of this conversation, by the id that history and tools tell.",
            }
        ]

    async def read(self, run: RunScope, uri: str) -> Mapping[str, Any]:
        """Raises NotFound, PayloadTooLarge, and what the run's calls raise."""
        if uri.startswith(ARTIFACTS):
            artifact_id = uri.removeprefix(ARTIFACTS)
            wanted = pb.RunnerServiceGetArtifactRequest(artifact_id=artifact_id)
            ref = (await self._calls.one(run, "get_artifact", wanted)).artifact
            self._check(ref.size)
            part = pb.RunnerServiceReadArtifactRequest(artifact_id=artifact_id, length=ref.size)
            data = await self._calls.bytes(run, "read_artifact", part, self._most) if ref.size else b""
        elif uri.startswith(FILES):
            file_id = uri.removeprefix(FILES)
            ref = (await self._calls.one(run, "get_file", pb.GetFileRequest(file_id=file_id))).file
            self._check(ref.size)
            piece = pb.RunnerServiceReadFileRequest(file_id=file_id, length=ref.size)
            data = await self._calls.bytes(run, "read_file", piece, self._most) if ref.size else b""
        else:
            raise NotFound.of("resource", uri[:200])
        return {"uri": uri, "mimeType": ref.mime_type, **_content(ref.mime_type, data)}

    def _check(self, size: int) -> None:
        if size > self._most:
            raise PayloadTooLarge(f"it has {size} bytes, and a resource is read with at most {self._most}")


def _content(mime_type: str, data: bytes) -> Mapping[str, str]:
    if mime_type.startswith("text/") or mime_type in _TEXTS:
        try:
            return {"text": data.decode()}
        except UnicodeDecodeError:
            pass
    return {"blob": base64.b64encode(data).decode()}
