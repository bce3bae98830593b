"""Files from the page to the host: streamed through, never held here as a whole."""

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from portway.adapters.kit.host import Host
from portway.adapters.web_chat.frames import file_json
from portway.adapters.web_chat.limits import UPLOAD_BYTES, UPLOADS_AT_ONCE
from portway.rpc.errors import InvalidInput, LimitExceeded, PayloadTooLarge, Reason

_DRAINED = 2 * UPLOAD_BYTES
_MAX_NAME = 255
_UNFIT = re.compile(r"[\x00-\x1f\x7f/\\]")
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class Uploads:
    """`POST /api/uploads?name=…` with the bytes as the body and their type in Content-Type."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._under_way = 0

    async def create(self, request: Request) -> Response:
        if self._under_way >= UPLOADS_AT_ONCE:
            raise LimitExceeded(
                f"{UPLOADS_AT_ONCE} uploads are under way; try again in a moment",
                reason=Reason.OVERLOADED,
                retry_after=2.0,
            )
        size = _declared_size(request)
        if size > UPLOAD_BYTES:
            await _drain(request)
            raise _too_large()
        self._under_way += 1
        try:
            name, mime_type = _name_of(request), _type_of(request)
            made = await self._host.create_artifact(name, mime_type, size, _bounded(request))
        except ClientDisconnect:
            # The upload was broken off: the host has dropped what it had, and nobody is there to read an answer.
            return Response(status_code=400)
        finally:
            self._under_way -= 1
        return JSONResponse(file_json(made), status_code=201)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the file is larger than {UPLOAD_BYTES // (1024 * 1024)} MB, the limit of one attachment; "
        "make it smaller or send a link to it",
        facts={"limit": str(UPLOAD_BYTES)},
    )


def _declared_size(request: Request) -> int:
    text = request.headers.get("content-length", "0")
    if not text.isdecimal():
        raise InvalidInput.field("Content-Length", "must be a number of bytes")
    return int(text)


def _name_of(request: Request) -> str:
    """Without any folder: what a browser sends is a name, and what anybody else sends must not be a path."""
    name = _UNFIT.sub("_", unquote(request.query_params.get("name", ""))).strip(" .")
    return name[-_MAX_NAME:] or "file"


def _type_of(request: Request) -> str:
    text = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return text if _MIME.fullmatch(text) else "application/octet-stream"


async def _bounded(request: Request) -> AsyncIterator[bytes]:
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > UPLOAD_BYTES:
            raise _too_large()
        yield piece


async def _drain(request: Request) -> None:
    """Reads what the browser is sending anyway: one that is answered while it sends reports a broken connection and not
    the answer. Of a body without end only so much is read."""
    seen = 0
    try:
        async for piece in request.stream():
            seen += len(piece)
            if seen > _DRAINED:
                return
    except ClientDisconnect:
        return
