"""Cursors and page tokens: opaque, authenticated, bound to the stream or list that they were given out for.

A cursor holds (epoch, sequence); the name of its stream only enters the signature, so a cursor of another stream, of
another workspace (make it part of the name) or made by hand is refused alike.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass

from portway.rpc.errors import FieldViolation, InvalidInput, Reason

_MAC_BYTES = 16
_POSITION = struct.Struct(">IQ")
MAX_TOKEN_CHARS = 1024
MIN_KEY_BYTES = 16


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in a stream: after `sequence` of `epoch`. An epoch starts anew when sequences do."""

    epoch: int
    sequence: int


class CursorCodec:
    """Gives out and reads cursors and page tokens with one secret key (kept, so that cursors outlive a restart)."""

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a cursor key has at least {MIN_KEY_BYTES} bytes")
        self._key = key

    def write(self, stream: str, cursor: Cursor) -> str:
        return self._seal(f"cursor\0{stream}", _POSITION.pack(cursor.epoch, cursor.sequence))

    def read(self, token: str, stream: str, *, field: str = "cursor") -> Cursor:
        """The cursor in `token`. Raises `InvalidInput` on `field` for anything not given out for `stream`."""
        body = self._open(f"cursor\0{stream}", token, field)
        epoch, sequence = _POSITION.unpack(body)
        return Cursor(epoch, sequence)

    def write_page(self, listing: str, position: str) -> str:
        """A page token for lists ordered by a key: `listing` names list and filters, `position` the last key."""
        return self._seal(f"page\0{listing}", position.encode())

    def read_page(self, token: str, listing: str, *, field: str = "page_token") -> str:
        return self._open(f"page\0{listing}", token, field).decode()

    def _seal(self, name: str, body: bytes) -> str:
        return base64.urlsafe_b64encode(self._mac(name, body) + body).rstrip(b"=").decode()

    def _open(self, name: str, token: str, field: str) -> bytes:
        if len(token) <= MAX_TOKEN_CHARS:
            try:
                sealed = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, UnicodeEncodeError):
                sealed = b""
            mac, body = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
            if hmac.compare_digest(mac, self._mac(name, body)):
                return body
        description = "was not given out for this list; start again without it"
        raise InvalidInput(
            f"{field}: {description}", reason=Reason.INVALID_CURSOR, fields=[FieldViolation(field, description)]
        )

    def _mac(self, name: str, body: bytes) -> bytes:
        # A name may hold a path whose bytes are no text.
        named = name.encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._key, len(named).to_bytes(4) + named + body, hashlib.sha256)
        return digest[:_MAC_BYTES]
