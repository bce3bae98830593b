"""JSON-RPC 2.0 as MCP has it: what a body is, or the error that it is answered with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Never

from portway.server.bridge.sessions import RequestId

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002
# Of our own, from the range for servers: the data's `reason` says more.
REFUSED = -32000

_MAX_ID = 256
MAX_BATCH = 16


class RpcError(Exception):
    """An error of the protocol, not of a tool."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def body(self, request_id: RequestId | None) -> Mapping[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data:
            error["data"] = self.data
        return {"jsonrpc": "2.0", "id": request_id, "error": error}


@dataclass(frozen=True, slots=True)
class Request:
    request_id: RequestId
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notification:
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """To a request of the server's. There is none, so it answers nothing."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that is none, with its id as far as it has one."""

    error: RpcError
    request_id: RequestId | None = None


Message = Request | Notification | Response | Malformed


def parse(raw: bytes) -> Message | Sequence[Message]:
    """One message, or several of a batch. Raises RpcError where the body is no JSON, or an empty or too long batch."""
    try:
        found = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RpcError(PARSE_ERROR, "the body is no JSON") from None
    if b"\\u" in raw:
        _check_text(found)
    if not isinstance(found, list):
        return _message(found)
    if not 0 < len(found) <= MAX_BATCH:
        raise RpcError(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} messages")
    return [_message(one) for one in found]


def _check_text(found: object) -> None:
    """JSON can spell halves of characters, which no other text can hold. Raises RpcError."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RpcError(PARSE_ERROR, "the body holds half of a character") from None


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")


def _message(found: object) -> Message:
    if not isinstance(found, dict) or found.get("jsonrpc") != "2.0":
        return Malformed(RpcError(INVALID_REQUEST, 'a message is an object with "jsonrpc": "2.0"'))
    request_id = found.get("id")
    if "id" in found and not _is_id(request_id):
        return Malformed(RpcError(INVALID_REQUEST, f"an id is an integer, or a text of at most {_MAX_ID} characters"))
    if "method" not in found and ("result" in found or "error" in found):
        return Response()
    method, params = found.get("method"), found.get("params", {})
    if not isinstance(method, str) or not method:
        return Malformed(RpcError(INVALID_REQUEST, "the method is a text"), request_id)
    if not isinstance(params, dict):
        return Malformed(RpcError(INVALID_PARAMS, "the params are an object"), request_id)
    return Notification(method, params) if request_id is None else Request(request_id, method, params)


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_ID
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
