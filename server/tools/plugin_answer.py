"""What a plugin's tool answers, piece by piece."""

from __future__ import annotations

from portway.rpc.errors import NotAvailable, PayloadTooLarge
from portway.server.tools.types import PartialText, ToolEvent, ToolFile, ToolProgress, ToolResult
from portway.server.tools.wire import dict_of
from portway.v1 import component_pb2, runtime_pb2

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_ALL_BYTES = 64 * 1024 * 1024
MAX_FILES = 64


class ToolAnswer:
    """Gathers the files of one call; its result has them all."""

    def __init__(self) -> None:
        self._files: list[ToolFile] = []
        self._name = self._mime_type = ""
        self._open = bytearray()
        self._bytes = 0

    def take(self, response: runtime_pb2.RuntimeServiceCallToolResponse) -> ToolEvent | None:
        """The event; None for a piece of a file. Raises PayloadTooLarge, NotAvailable for what is not known here."""
        match response.WhichOneof("kind"):
            case "partial_text":
                return PartialText(response.partial_text)
            case "progress":
                fraction = response.progress.fraction if response.progress.HasField("fraction") else None
                return ToolProgress(response.progress.text[:1000], fraction)
            case "file":
                self._keep(response.file)
                return None
            case "result":
                result = response.result
                return ToolResult(result.text, dict_of(result.data), result.is_error, files=tuple(self._files))
            case _:
                raise NotAvailable("the plugin runtime sent what this version does not know; update the host")

    def _keep(self, piece: component_pb2.ToolFilePiece) -> None:
        self._name = self._name or piece.name[:255] or "file"
        self._mime_type = self._mime_type or piece.mime_type[:256] or "application/octet-stream"
        self._open += piece.data
        self._bytes += len(piece.data)
        if len(self._open) > MAX_FILE_BYTES:
            raise PayloadTooLarge(f"the file {self._name!r} has more than {MAX_FILE_BYTES} bytes")
        if self._bytes > MAX_ALL_BYTES or len(self._files) >= MAX_FILES:
            raise PayloadTooLarge(f"a call gives at most {MAX_FILES} files of {MAX_ALL_BYTES} bytes in all")
        if piece.last:
            self._files.append(ToolFile(self._name, self._mime_type, bytes(self._open)))
            self._name = self._mime_type = ""
            self._open.clear()
