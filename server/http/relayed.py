"""HTTP over connections that come through something else than a listener of the machine."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from portway.server.http.listener import Application, HttpLimits, http_config

if TYPE_CHECKING:
    import uvicorn


class RelayedHttp:
    """Serves one application. Its packages are loaded with the first connection that somebody wants served."""

    def __init__(self, application: Callable[[], Application]) -> None:
        self._application = application
        self._config: uvicorn.Config | None = None

    @contextmanager
    def protocols(self, state: Mapping[str, str], limits: HttpLimits) -> Iterator[Callable[[], asyncio.Protocol]]:
        """Protocols whose requests carry `state`. What is still being answered when the block is left is cancelled."""
        from uvicorn.server import ServerState  # noqa: PLC0415 - only where it is used

        if self._config is None:
            self._config = http_config(self._application(), limits)
            self._config.load()
        config, shared = self._config, ServerState()

        def made() -> asyncio.Protocol:
            protocol: Any = config.http_protocol_class
            return protocol(config=config, server_state=shared, app_state=dict(state))  # type: ignore[no-any-return]

        try:
            yield made
        finally:
            for connection in list(shared.connections):
                connection.shutdown()
            for task in list(shared.tasks):
                task.cancel()
