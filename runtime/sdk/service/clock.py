"""How long an exchange with a service may take."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from portway.runtime.sdk.service.failures import ServiceFailure

T = TypeVar("T")


class Deadline:
    """The end of one exchange. What its steps run out of is named as the field of the configuration that it is."""

    def __init__(self, service: str, total_seconds: float) -> None:
        self._service = service
        self._total = total_seconds
        self._end = time.monotonic() + total_seconds

    async def step(self, work: Awaitable[T], seconds: float = 0.0, field: str = "") -> T:
        """`work`, if it ends in time: before the end of the whole, and within `seconds` where these are given."""
        left = max(0.0, self._end - time.monotonic())
        brief = bool(field) and seconds < left
        try:
            async with asyncio.timeout(seconds if brief else left):
                return await work
        except TimeoutError:
            if brief:
                text, named = f"{self._service} said nothing for {seconds:g} s", field
            else:
                text, named = f"{self._service} took longer than {self._total:g} s in all", "total_seconds"
            to_do = f"try again later, or raise {named} in the agent's configuration"
            raise ServiceFailure("service.timeout", f"{text}; {to_do}") from None
