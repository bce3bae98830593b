"""The HTTP client of runners that ask a service. It says what failed in the words of `failures`."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from portway.runtime.sdk.service.addresses import AddressRefused
from portway.runtime.sdk.service.clock import Deadline
from portway.runtime.sdk.service.failures import ServiceFailure, bad_answer, code_of, refused, reported
from portway.runtime.sdk.service.masking import masked
from portway.runtime.sdk.service.options import MISCONFIGURED, ServiceOptions
from portway.runtime.sdk.service.reply import Json, Reply
from portway.runtime.sdk.service.unpacking import Unpackable, Unpacker
from portway.runtime.sdk.types.results import RunResult

MAX_ERROR_BYTES = 64 * 1024
MAX_TRIES = 3
# A service that asks for a longer pause is not waited for: the run fails and says so.
MAX_PAUSE_SECONDS = 10.0
STOP_SECONDS = 3.0
# Nothing was sent yet, so that nothing can have been done twice.
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form."""

    field: str
    name: str
    mime_type: str
    data: bytes


class Service:
    """A service by its base URL. `secrets` never stand in a message; `codes` are the service's own codes of errors."""

    def __init__(
        self,
        name: str,
        options: ServiceOptions,
        client: httpx2.AsyncClient,
        secrets: Sequence[str],
        codes: Mapping[str, str],
    ) -> None:
        self.name = name
        self.options = options
        self._secrets = secrets
        self._codes = codes
        self._client = client

    async def told(
        self, results: AsyncGenerator[RunResult, None], stop: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncGenerator[RunResult, None]:
        """What a run says, without the secrets. `stop` is called however it ends, also where it is cancelled."""
        try:
            async with aclosing(masked(results, self._secrets)) as said:
                async for result in said:
                    yield result
        finally:
            if stop is not None:
                await stop()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None) -> Json:
        async with self.request("GET", path, params=params) as reply:
            return await reply.json()

    async def post(self, path: str, body: Json, *, params: Mapping[str, str] | None = None) -> Json:
        async with self.request("POST", path, body=body, params=params) as reply:
            return await reply.json()

    async def upload(self, path: str, file: File, fields: Mapping[str, str] | None = None) -> Json:
        async with self.request("POST", path, files=(file,), fields=fields) as reply:
            return await reply.json()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        files: Sequence[File] = (),
        fields: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Reply]:
        """The answer, if its status is good. Leaving the block closes the connection."""
        form = [(file.field, (file.name, file.data, file.mime_type)) for file in files]
        try:
            request = self._client.build_request(
                method,
                self.options.base_url + path,
                json=body,
                params=params or None,
                headers=headers,
                files=form or None,
                data=dict(fields) if fields else None,
            )
        except (httpx2.InvalidURL, UnicodeError):
            raise ServiceFailure(MISCONFIGURED, f"the address of {self.name} is no URL; correct it") from None
        deadline = Deadline(self.name, self.options.total_seconds)
        response = await self._send(request, deadline)
        try:
            yield Reply(self, response, deadline)
        finally:
            await response.aclose()

    async def tell(self, method: str, path: str, body: Json | None = None, **options: Any) -> None:
        """A last word that nobody depends on, such as a stop: brief, and its failure is no failure of the run."""
        with suppress(ServiceFailure, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS), self.request(method, path, body=body, **options) as reply:
                await reply.text()

    def reported(self, vendor_code: object, text: object, code: str = "") -> ServiceFailure:
        """An error that the service tells inside an answer. `code` is what it means where its own tells nothing."""
        meant = code_of(str(vendor_code or ""), self._codes) or code or "service.failed"
        return reported(self.name, meant, vendor_code, text, self._secrets)

    def bad(self, what: str) -> ServiceFailure:
        """An answer that is not what the service's documentation promises."""
        return bad_answer(self.name, what)

    def broken(self, error: httpx2.HTTPError, *, reading: bool) -> ServiceFailure:
        """What a failure of the connection means. The library's own text is left out: it may quote a URL."""
        if isinstance(error, AddressRefused):
            return ServiceFailure(MISCONFIGURED, f"{self.name} is not asked: {error}; correct its address")
        when = "while its answer was read" if reading else "while it was asked"
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            message = f"{self.name} was not reached within {self.options.connect_seconds:g} s"
            return ServiceFailure("service.timeout", f"{message}; check base_url, or raise connect_seconds")
        if isinstance(error, httpx2.TimeoutException):
            message = f"{self.name} did not answer in time {when}"
            return ServiceFailure("service.timeout", f"{message}; try later, or raise first_byte_seconds")
        if reading or isinstance(error, httpx2.RemoteProtocolError):
            return bad_answer(self.name, f"the connection was cut or garbled {when}")
        message = f"{self.name} cannot be reached {when} ({type(error).__name__})"
        return ServiceFailure("service.unavailable", f"{message}; check base_url and whether it runs")

    async def _send(self, request: httpx2.Request, deadline: Deadline) -> httpx2.Response:
        for number in range(1, MAX_TRIES + 1):
            try:
                response = await deadline.step(self._client.send(request, stream=True))
            except httpx2.HTTPError as error:
                again = isinstance(error, _NEVER_SENT) or request.method == "GET"
                if not again or number == MAX_TRIES or isinstance(error, AddressRefused):
                    raise self.broken(error, reading=False) from None
                pause = 0.2 * number
            else:
                if response.is_success:
                    # From here on the silence between two pieces counts, which `Reply` looks after.
                    request.extensions.get("timeout", {}).update(read=None)
                    return response
                failure, given = await self._failure(response, deadline)
                if given is None or given > MAX_PAUSE_SECONDS or number == MAX_TRIES:
                    raise failure
                pause = given
            await deadline.step(asyncio.sleep(pause))
        raise AssertionError("the last try returns or raises")

    async def _failure(self, response: httpx2.Response, deadline: Deadline) -> tuple[ServiceFailure, float | None]:
        """What went wrong, and after how many seconds the service wants to be asked again."""
        body = bytearray()
        try:
            unpacker = Unpacker(response.headers.get("content-encoding", ""))
            raw = response.aiter_raw()
            while len(body) < MAX_ERROR_BYTES and (packed := await deadline.step(anext(raw, None))) is not None:
                for piece in unpacker.feed(packed):
                    body += piece
                    if len(body) >= MAX_ERROR_BYTES:
                        break
        except (httpx2.HTTPError, Unpackable):
            # The status says enough.
            body.clear()
        finally:
            await response.aclose()
        if response.has_redirect_location:
            return self.bad("it redirects elsewhere, where the credentials must not follow"), None
        pause = _pause(response)
        return refused(self.name, response.status_code, bytes(body), self._secrets, self._codes, pause), pause


def _pause(response: httpx2.Response) -> float | None:
    """Seconds until a request that was turned away may be sent again, which the service says as a number or a time;
    None where it may not."""
    if response.status_code not in (429, 503):
        return None
    given = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), 86_400.0) if math.isfinite(seconds) else None
