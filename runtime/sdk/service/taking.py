"""The end of an answer: files that the service made are taken over for the people who asked."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from portway.rpc.errors import PortwayError
from portway.runtime.sdk.host.api import HostApi
from portway.runtime.sdk.service.answer import Answer, Made
from portway.runtime.sdk.service.client import Service
from portway.runtime.sdk.service.failures import ServiceFailure
from portway.runtime.sdk.service.opening import fetched
from portway.runtime.sdk.types.content import AudioPart, FilePart, ImagePart, MediaPart, Part, VideoPart
from portway.runtime.sdk.types.results import RunResult

_PARTS: Mapping[str, type[MediaPart]] = {"image": ImagePart, "audio": AudioPart, "video": VideoPart}


async def ended(service: Service, host: HostApi, answer: Answer) -> AsyncGenerator[RunResult, None]:
    """The whole message and the end of the run. A file that cannot be taken over is told by its address."""
    for made in answer.made:
        try:
            answer.enclose(await _taken_over(service, host, made))
        except (ServiceFailure, PortwayError):
            # Too large, gone, or the agent's policy lets it keep no files: the answer is one all the same.
            if urlsplit(made.url).scheme in ("http", "https"):
                for result in answer.say(f"\n\n{made.name or 'file'}: {made.url}"):
                    yield result
    for result in answer.finish():
        yield result


async def _taken_over(service: Service, host: HostApi, made: Made) -> Part:
    data, mime_type = made.data, made.mime_type
    if not data:
        async with fetched(service, made.url) as reply:
            data = await reply.data(service.options.max_file_bytes or 1)
            mime_type = mime_type or reply.content_type
    name = made.name or unquote(PurePosixPath(urlsplit(made.url).path).name)[-200:]
    artifact = await host.artifacts.create(data, name=name, mime_type=mime_type or "application/octet-stream")
    return Part(_PARTS.get(mime_type.partition("/")[0], FilePart)(artifact))
