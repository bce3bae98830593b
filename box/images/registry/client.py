"""Requests to one registry for one pull: its tokens, its redirects, its refusals.

Importing this costs the HTTP library: `pull.py` does it when something is pulled first.
"""

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

import httpcore2
import httpx2

from portway.box.images.registry.reference import DEFAULT_REGISTRY, Reference
from portway.box.images.registry.settings import RegistryAccess
from portway.box.network.addresses import AddressRules
from portway.rpc.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, Reason, Resource, Unavailable

_HOSTS: Mapping[str, str] = {DEFAULT_REGISTRY: "registry-1.docker.io"}
_CONNECT_SECONDS, _SILENCE_SECONDS = 15.0, 60.0
_MOST_REDIRECTS = 5
_MOST_TOKEN = 64 * 1024
_PIECE = 256 * 1024
_FIELD = re.compile(r'([a-z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Answer:
    """The beginning of an answer; `pieces` is its body, with whatever length it has."""

    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class RegistryClient:
    """Asks one registry about one repository. Credentials go to it and to who gives its tokens, no further."""

    def __init__(self, reference: Reference, access: RegistryAccess, rules: AddressRules) -> None:
        self._reference = reference
        self._access = access
        self._host = _HOSTS.get(reference.registry, reference.registry)
        self._base = f"{'http' if access.insecure else 'https'}://{self._host}"
        self._authorization = ""
        timeout = httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
        transport = httpx2.AsyncHTTPTransport(trust_env=False)
        # The public constructor takes no network backend; a test holds that connections go through this one.
        transport._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            network_backend=_JudgedBackend(rules, urlsplit(self._base).hostname or ""),
        )
        self._http = httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, follow_redirects=False)

    async def close(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def get(self, path: str, accept: str = "*/*") -> AsyncIterator[Answer]:
        """GET of a path below the repository. Raises errors by their meaning."""
        url = f"{self._base}/v2/{self._reference.repository}/{path}"
        try:
            for _attempt in range(2):
                response = await self._followed(url, accept)
                if response.status_code != httpx2.codes.UNAUTHORIZED or _attempt:
                    break
                await response.aclose()
                await self._authorize(response.headers.get("www-authenticate", ""))
            try:
                self._check(response)
                yield Answer(response.headers, response.aiter_raw(_PIECE))
            finally:
                await response.aclose()
        except (httpx2.HTTPError, httpcore2.NetworkError, httpx2.InvalidURL) as error:
            text = str(error) or type(error).__name__
            raise Unavailable(f"the registry {self._reference.registry} was not reached: {text[:200]}") from None

    async def _followed(self, url: str, accept: str) -> httpx2.Response:
        """Along redirects, which take no credentials along."""
        headers = {"accept": accept, "accept-encoding": "identity"}
        for number in range(_MOST_REDIRECTS + 1):
            own = number == 0 and self._authorization
            extra = {"authorization": self._authorization} if own else {}
            request = self._http.build_request("GET", url, headers={**headers, **extra})
            response = await self._http.send(request, stream=True)
            if not response.has_redirect_location:
                return response
            await response.aclose()
            url = urljoin(url, response.headers["location"])
            self._require_sound(url)
        raise Unavailable(f"the registry {self._reference.registry} redirects without an end")

    def _require_sound(self, url: str) -> None:
        """An address that the registry gave, and nobody who is trusted."""
        parts = urlsplit(url)
        sound = parts.scheme == "https" or (parts.scheme == "http" and self._access.insecure)
        if not sound or not parts.hostname or parts.username or parts.password:
            raise InvalidInput.field("reference", "cannot be pulled: its registry leads to an address without TLS")

    async def _authorize(self, challenge: str) -> None:
        kind, _, rest = challenge.partition(" ")
        basic = self._basic()
        if kind.lower() == "basic" and basic is not None:
            self._authorization = f"Basic {base64.b64encode(':'.join(basic).encode()).decode()}"
            return
        if kind.lower() != "bearer":
            raise self._refused()
        said = dict(_FIELD.findall(rest))
        realm = said.get("realm", "")
        self._require_sound(realm)
        query = {"service": said.get("service", ""), "scope": f"repository:{self._reference.repository}:pull"}
        request = self._http.build_request("GET", realm, params={name: text for name, text in query.items() if text})
        response = await self._http.send(request, stream=True, auth=httpx2.BasicAuth(*basic) if basic else None)
        try:
            if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
                raise self._refused()
            self._check(response)
            self._authorization = f"Bearer {_token_in(await _beginning(response))}"
        finally:
            await response.aclose()

    def _basic(self) -> tuple[str, str] | None:
        if not self._access.username:
            return None
        try:
            return self._access.username, self._access.password()
        except (OSError, UnicodeError):
            text = f"the password file of the registry {self._reference.registry} cannot be read (`images.registries`)"
            raise Unavailable(text) from None

    def _check(self, response: httpx2.Response) -> None:
        code, registry = response.status_code, self._reference.registry
        if code == httpx2.codes.OK:
            return
        if code == httpx2.codes.NOT_FOUND:
            written = self._reference.written
            raise NotFound(f"the registry {registry} has no image {written!r}", resource=Resource("image", written))
        if code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            raise self._refused()
        if code == httpx2.codes.TOO_MANY_REQUESTS:
            raise LimitExceeded(f"the registry {registry} takes no more requests for now", retry_after=60.0)
        raise Unavailable(f"the registry {registry} answered {code}", retry_after=5.0)

    def _refused(self) -> NotPermitted:
        how = "did not take the credentials" if self._access.username else "wants credentials, or has no such image"
        text = f"the registry {self._reference.registry} {how} (`box.images.registries`)"
        return NotPermitted(text, reason=Reason.REFUSED_BY_POLICY)


async def _beginning(response: httpx2.Response) -> bytes:
    data = b""
    async for piece in response.aiter_raw(_PIECE):
        data += piece
        if len(data) > _MOST_TOKEN:
            break
    return data


def _token_in(data: bytes) -> str:
    try:
        document = json.loads(data[:_MOST_TOKEN])
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unavailable("who gives tokens for the registry gave none")
    return token


class _JudgedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the registry that the operator named wherever it is, and to what it points at only in public."""

    def __init__(self, rules: AddressRules, registry: str) -> None:
        self._rules = rules
        self._registry = registry
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the library's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"{host} was not looked up in time") from None
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError(f"the name {host} could not be looked up") from None
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found):
            if host != self._registry and self._rules.objection(ip_address(address)):
                raise httpcore2.ConnectError(f"the registry leads to {host}, which is not public")
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure
