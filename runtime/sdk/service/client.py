"""The HTTP client of runners that ask a service. It says what failed in the words of `failures`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from portway.runtime.sdk.service.addresses import AddressRefused, checked_transport
from portway.runtime.sdk.service.events import EventReader, LineSplitter, ServerEvent, StreamUnreadable
from portway.runtime.sdk.service.failures import ServiceFailure, bad_answer, refused
from portway.runtime.sdk.service.options import ServiceOptions

Json = dict[str, Any]
T = TypeVar("T")
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


class Reply:
    """An answer with a good status, whose body is still to be read: in one of the three ways, once."""

    def __init__(self, service: "Service", response: httpx2.Response, deadline: float) -> None:
        self._service = service
        self._response = response
        self._deadline = deadline

    @property
    def content_type(self) -> str:
        kind: str = self._response.headers.get("content-type", "")
        return kind.partition(";")[0].strip().lower()

    async def json(self) -> Json:
        """The body as a JSON object."""
        document = await self.document()
        if not isinstance(document, dict):
            raise bad_answer(self._service.name, "it is JSON, but no object")
        return document

    async def document(self) -> Any:
        """The body as JSON of any kind."""
        if self.content_type == "text/html":
            raise bad_answer(self._service.name, "it is a page in HTML where JSON was expected")
        body = b"".join([piece async for piece in self._pieces()])
        try:
            return json.loads(body)
        except ValueError:
            raise bad_answer(self._service.name, "it is no JSON") from None

    async def text(self) -> str:
        body = b"".join([piece async for piece in self._pieces()])
        return body.decode(errors="replace")

    async def events(self) -> AsyncIterator[ServerEvent]:
        """Server-sent events until the service ends them; whether they were all, only the runner knows."""
        if self.content_type != "text/event-stream":
            kind = self.content_type or "nothing that it names"
            raise bad_answer(self._service.name, f"it is {kind} where a stream of events was expected")
        reader = EventReader()
        try:
            async for piece in self._pieces():
                for event in reader.feed(piece):
                    yield event
            for event in reader.finish():
                yield event
        except StreamUnreadable as error:
            raise bad_answer(self._service.name, str(error)) from None

    async def lines(self) -> AsyncIterator[str]:
        """Lines that are not empty."""
        splitter = LineSplitter()
        try:
            async for piece in self._pieces():
                for line in splitter.feed(piece):
                    if line.strip():
                        yield line
            if splitter.rest().strip():
                yield splitter.rest()
        except StreamUnreadable as error:
            raise bad_answer(self._service.name, str(error)) from None

    async def _pieces(self) -> AsyncIterator[bytes]:
        size = 0
        pieces = self._response.aiter_bytes()
        while True:
            try:
                piece = await self._service.before(self._deadline, anext(pieces, None))
            except httpx2.HTTPError as error:
                raise self._service.broken(error, "while its answer was read") from None
            if piece is None:
                return
            size += len(piece)
            if size > self._service.options.max_answer_bytes:
                message = f"the answer of {self._service.name} is over {self._service.options.max_answer_bytes:,} bytes"
                raise ServiceFailure("service.too_large", f"{message}; have the application answer with less")
            yield piece


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
        self.secrets = secrets
        self.codes = codes
        self._client = client

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
        request = self._client.build_request(
            method,
            self.options.base_url + path,
            json=body,
            params=params or None,
            headers=headers,
            files=form or None,
            data=dict(fields) if fields else None,
        )
        deadline = time.monotonic() + self.options.total_seconds
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

    async def before(self, deadline: float, step: Awaitable[T]) -> T:
        """A step of an exchange, if it ends in time."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await step
        except TimeoutError:
            message = f"{self.name} took longer than {self.options.total_seconds:g} s in all"
            raise ServiceFailure(
                "service.timeout", f"{message}; raise total_seconds in the agent's configuration"
            ) from None

    def broken(self, error: httpx2.HTTPError, when: str) -> ServiceFailure:
        """What a failure of the connection means. The library's own text is left out: it may quote a URL."""
        refusal = _refusal_in(error)
        if refusal is not None:
            return ServiceFailure("service.misconfigured", f"{self.name}: {refusal}; correct base_url")
        if isinstance(error, httpx2.TimeoutException):
            message = f"{self.name} did not answer in time {when}"
            return ServiceFailure("service.timeout", f"{message}; try later, or raise read_seconds")
        if isinstance(error, httpx2.RemoteProtocolError | httpx2.DecodingError):
            return bad_answer(self.name, f"the connection was cut or garbled {when}")
        message = f"{self.name} cannot be reached {when} ({type(error).__name__})"
        return ServiceFailure("service.unavailable", f"{message}; check base_url and whether it runs")

    async def _send(self, request: httpx2.Request, deadline: float) -> httpx2.Response:
        for number in range(1, MAX_TRIES + 1):
            try:
                response = await self.before(deadline, self._client.send(request, stream=True))
            except httpx2.HTTPError as error:
                again = isinstance(error, _NEVER_SENT) or request.method == "GET"
                if not again or number == MAX_TRIES or _refusal_in(error) is not None:
                    raise self.broken(error, "while it was asked") from None
                pause = 0.2 * number
            else:
                if response.is_success:
                    return response
                failure = await self._failure(response, deadline)
                given = _pause(response)
                if given is None or number == MAX_TRIES:
                    raise failure
                pause = given
            await self.before(deadline, asyncio.sleep(pause))
        raise AssertionError("the last try returns or raises")

    async def _failure(self, response: httpx2.Response, deadline: float) -> ServiceFailure:
        body = bytearray()
        try:
            pieces = response.aiter_bytes()
            while len(body) < MAX_ERROR_BYTES:
                piece = await self.before(deadline, anext(pieces, None))
                if piece is None:
                    break
                body += piece
        except httpx2.HTTPError:
            # The status says enough.
            body.clear()
        finally:
            await response.aclose()
        if response.has_redirect_location:
            return bad_answer(self.name, "it redirects elsewhere, where the credentials must not follow")
        return refused(self.name, response.status_code, bytes(body), self.secrets, self.codes)


@asynccontextmanager
async def open_service(
    name: str,
    options: ServiceOptions,
    *,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    secrets: Iterable[str] = (),
    codes: Mapping[str, str] | None = None,
) -> AsyncIterator[Service]:
    """A service for one run. Proxies and certificates of the environment are not read; redirects are not followed."""
    timeout = httpx2.Timeout(
        connect=options.connect_seconds,
        read=options.read_seconds,
        write=options.read_seconds,
        pool=options.connect_seconds,
    )
    async with httpx2.AsyncClient(
        transport=checked_transport(),
        timeout=timeout,
        headers={"user-agent": "portway", "accept-encoding": "gzip, deflate", **(headers or {})},
        auth=auth,
        trust_env=False,
        follow_redirects=False,
    ) as client:
        yield Service(name, options, client, tuple(one for one in secrets if one), codes or {})


def _pause(response: httpx2.Response) -> float | None:
    """Seconds until a request that was turned away may be sent again; None where it may not."""
    if response.status_code not in (429, 503):
        return None
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= MAX_PAUSE_SECONDS else None


def _refusal_in(error: BaseException | None) -> AddressRefused | None:
    for _ in range(8):
        if error is None or isinstance(error, AddressRefused):
            return error
        error = error.__cause__ or error.__context__
    return None
