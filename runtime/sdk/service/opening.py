"""Opening a service for one run, and the places that it names."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import httpx2

from portway.runtime.sdk.service.addresses import AddressRule, checked_transport
from portway.runtime.sdk.service.client import Service
from portway.runtime.sdk.service.options import ServiceOptions
from portway.runtime.sdk.service.reply import Reply


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
    rule = AddressRule(urlsplit(options.base_url).hostname or "", options.private_addresses)
    async with _client(options, rule, headers or {}, auth) as client:
        yield Service(name, options, client, tuple(one for one in secrets if one), codes or {})


@asynccontextmanager
async def fetched(service: Service, url: str) -> AsyncIterator[Reply]:
    """What a service named by a URL, such as a picture that it made, without any credentials. A private address is
    asked only where it is the service's own."""
    absolute = urljoin(service.options.base_url + "/", url)
    if urlsplit(absolute).scheme not in ("https", "http"):
        raise service.bad("the address of a file is none of the web")
    own = urlsplit(service.options.base_url).hostname or ""
    async with _client(service.options, AddressRule(own, service.options.private_addresses), {}, None) as client:
        there = Service(service.name, replace(service.options, base_url=absolute), client, (), {})
        async with there.request("GET", "") as reply:
            yield reply


def _client(
    options: ServiceOptions, rule: AddressRule, headers: Mapping[str, str], auth: tuple[str, str] | None
) -> httpx2.AsyncClient:
    timeout = httpx2.Timeout(
        connect=options.connect_seconds,
        read=options.first_byte_seconds,
        write=options.read_seconds,
        pool=options.connect_seconds,
    )
    return httpx2.AsyncClient(
        transport=checked_transport(rule),
        timeout=timeout,
        # Packing delays what is streamed, and little is saved.
        headers={"user-agent": "portway", "accept-encoding": "identity", **headers},
        auth=auth,
        trust_env=False,
        follow_redirects=False,
    )
