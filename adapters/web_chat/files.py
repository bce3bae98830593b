"""Files from the host to the page, whole or in ranges; and the steps of an answer that was given earlier."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from portway.adapters.kit.host import Host
from portway.adapters.kit.live import LiveRun
from portway.adapters.web_chat.frames import Json, is_ours
from portway.adapters.web_chat.limits import STEPS_EVENTS
from portway.adapters.web_chat.run_patch import blocks_json
from portway.rpc.errors import DeadlineExceeded, NotFound, OutOfRange

_RANGE = re.compile(r"bytes=(?P<first>\d{0,15})-(?P<last>\d{0,15})")
# What a browser shows without running anything in it. All else is offered as a download.
_SHOWN = re.compile(r"image/(png|jpeg|gif|webp|avif|bmp)|audio/[a-z0-9.+-]+|video/[a-z0-9.+-]+|text/plain")
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_AN_HOUR = "private, max-age=3600"


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    length: int
    partial: bool


class Files:
    """`GET /files/{artifact}` and `GET /api/runs/{run}/steps`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def read(self, request: Request) -> Response:
        artifact_id = request.path_params["artifact_id"]
        file = await self._host.artifact(artifact_id)
        headers = {
            "ETag": f'"{file.sha256}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": _AN_HOUR,
            "Content-Security-Policy": _FILE_POLICY,
            "Content-Disposition": _disposition(file.name, file.mime_type),
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        span = _span(request.headers.get("range", ""), file.size)
        headers["Content-Length"] = str(span.length)
        if span.partial:
            headers["Content-Range"] = f"bytes {span.first}-{span.first + span.length - 1}/{file.size}"
        status = 206 if span.partial else 200
        media_type = _content_type(file.mime_type)
        if request.method == "HEAD" or not span.length:
            return Response(status_code=status, headers=headers, media_type=media_type)
        body = self._host.read_artifact(artifact_id, span.first, span.length)
        return StreamingResponse(body, status_code=status, headers=headers, media_type=media_type)

    async def steps(self, request: Request) -> Response:
        """The blocks of a run, as they were shown while it went on. Of a run that ended they never change."""
        run_id = request.path_params["run_id"]
        if not is_ours(await self._host.conversation_of(run_id)):
            raise NotFound.of("run", run_id)
        run = LiveRun(run_id, "")
        count = 0
        try:
            async for event in self._host.run_events(run_id):
                run.apply(event)
                count += 1
                if run.ended is not None or count >= STEPS_EVENTS:
                    break
        except DeadlineExceeded:
            # It goes on still: what it did so far is an answer too.
            pass
        content: Json = {"run": run_id, "ended": run.ended is not None, "blocks": blocks_json(run)}
        cache = _AN_HOUR if run.ended is not None else "no-store"
        return JSONResponse(content, headers={"Cache-Control": cache})


def _span(header: str, size: int) -> _Span:
    """The one range that is asked for. Several at once, which nobody needs here, are answered with the whole."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match["first"] or match["last"]):
        return _Span(0, size, False)
    if not match["first"]:
        length = min(int(match["last"]), size)
        first = size - length
    else:
        first = int(match["first"])
        last = min(int(match["last"]), size - 1) if match["last"] else size - 1
        length = last - first + 1
    if length <= 0 or first >= size:
        raise OutOfRange(f"the file has {size} bytes; the range {header} lies outside", facts={"size": str(size)})
    return _Span(first, length, True)


def _disposition(name: str, mime_type: str) -> str:
    shown = "inline" if _SHOWN.fullmatch(mime_type) else "attachment"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)[:100] or "file"
    return f"{shown}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _content_type(mime_type: str) -> str:
    """As the host says, where a browser can do nothing bad with it."""
    if mime_type == "text/plain":
        return "text/plain; charset=utf-8"
    return mime_type if _SHOWN.fullmatch(mime_type) else "application/octet-stream"
