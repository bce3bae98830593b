"""Where the host is, and the channel to it."""

import json
from pathlib import Path

import structlog

from portway.rpc.channel import ClientTls, PortwayChannel, open_channel
from portway.rpc.errors import NotAuthenticated, Unavailable

log = structlog.get_logger("portway.adapters")


class Dial:
    """Opens the channel to the host, and another one when the host's address has changed.

    `host` is an address, or the path of a ready file that holds one. The token is read anew for each call, so that a
    rotated one is taken up.
    """

    def __init__(self, host: str, token_file: Path, tls: ClientTls | None = None) -> None:
        self._host = host
        self._token_file = token_file
        self._tls = tls
        self._address = ""
        self._channel: PortwayChannel | None = None
        self._retired: PortwayChannel | None = None

    def channel(self) -> PortwayChannel:
        """The channel for calls. Raises `Unavailable` before the host was ever found."""
        if self._channel is None:
            raise Unavailable("the host has not been found yet; it is starting, or `portway host` does not run")
        return self._channel

    async def renew(self) -> PortwayChannel:
        """Looks again where the host is. Raises `Unavailable` where nothing tells, `NotAuthenticated` for no token."""
        address = self._find()
        self._token()
        if self._channel is None or address != self._address:
            # Closing a channel cancels its calls without a word: the last one is left to those that still use it.
            if self._retired is not None:
                await self._retired.close()
            self._retired, self._channel = self._channel, open_channel(address, token=self._token, tls=self._tls)
            self._address = address
        return self._channel

    async def aclose(self) -> None:
        for channel in (self._retired, self._channel):
            if channel is not None:
                await channel.close()

    def _find(self) -> str:
        if not self._host.endswith(".json"):
            return self._host
        try:
            return str(json.loads(Path(self._host).read_text(encoding="utf-8"))["address"])
        except FileNotFoundError:
            raise Unavailable(f"{self._host} does not exist: the host is not ready yet") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{self._host} is not a ready file ({type(error).__name__})") from None

    def _token(self) -> str:
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotAuthenticated(f"{self._token_file}: the token cannot be read ({type(error).__name__})") from None
        if not token:
            raise NotAuthenticated(f"{self._token_file} is empty; make a token with `portway tokens create`")
        return token
