"""Passes: short-lived tokens that the host signs and another server checks by itself, with the host's public key.

`pw_pass_<id>_<claims>-<signature>`, both parts in hexadecimal; Ed25519 over id and claims. A pass cannot be revoked: it
names one server, one workspace and one role, and is over after fifteen minutes at most. It may be used
again until then.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from portway.rpc.errors import NotAuthenticated, Reason
from portway.rpc.identity import Role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIND = "pass"
BOX = "box"
LONGEST_SECONDS = 900
SKEW_SECONDS = 60
"""How far the host's clock may be ahead of the checking server's. By the latter's, no pass is let in after its end."""
ROLES = frozenset({Role.OPERATOR, Role.VIEWER})
_PREFIX = f"pw_{KIND}_"
_FORM = re.compile(_PREFIX + r"(?P<id>[0-9a-f]{32})_(?P<claims>[0-9a-f]{2,4096})-(?P<signature>[0-9a-f]{128})")
_EVERY_WORKSPACE = "*"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a pass says. Times in whole seconds since the epoch; `user_id` is '' where it is nobody's."""

    key_id: str
    audience: str
    workspace_id: str
    role: str
    subject: str
    user_id: str
    issue_time: int
    expire_time: int


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair, made of 32 secret bytes. It does not print."""

    key_id: str
    _private: "Ed25519PrivateKey"

    @classmethod
    def of(cls, key_id: str, seed: bytes) -> "SigningKey":
        # The library takes 17 ms and some megabytes: only who uses passes has it.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return cls(key_id, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"

    def sign(self, token_id: str, claims: Claims) -> str:
        """The text of a pass. `token_id` is `tok_` and 32 hexadecimal digits."""
        digits = token_id.removeprefix("tok_")
        said = json.dumps(asdict(claims), separators=(",", ":")).encode()
        return f"{_PREFIX}{digits}_{said.hex()}-{self._private.sign(_signed(digits, said)).hex()}"


def is_pass(text: str) -> bool:
    """Whether it has the look of one; says nothing about what it is worth."""
    return text.startswith(_PREFIX)


def check_pass(text: str, keys: Mapping[str, bytes], audience: str, now: float) -> tuple[str, Claims]:
    """The token id and the claims of a pass that is good for this server now. Raises `NotAuthenticated`."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise _refused()
    said = bytes.fromhex(match["claims"])
    claims = _read(said)
    public = keys.get(claims.key_id)
    if public is None or not _is_signed(public, match["signature"], _signed(match["id"], said)):
        raise _refused()
    life = claims.expire_time - claims.issue_time
    if claims.audience != audience or Role[claims.role.upper()] not in ROLES or not 0 < life <= LONGEST_SECONDS:
        raise _refused()
    if claims.workspace_id in ("", _EVERY_WORKSPACE) or claims.issue_time > now + SKEW_SECONDS:
        raise _refused()
    if claims.expire_time <= now:
        raise expired()
    return f"tok_{match['id']}", claims


def expired() -> NotAuthenticated:
    """What a pass is refused with after its end."""
    return NotAuthenticated(
        "the token is over; ask the host for another one with `portway box token`", reason=Reason.TOKEN_EXPIRED
    )


def _read(said: bytes) -> Claims:
    """Raises `NotAuthenticated` for anything but exactly the claims that a host writes."""
    try:
        content = json.loads(said)
        claims = Claims(**content)
        types = {name: int if name.endswith("_time") else str for name in content}
        if any(type(content[name]) is not kind for name, kind in types.items()):
            raise _refused()
        if claims.role.upper() not in Role.__members__:
            raise _refused()
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _refused() from None
    return claims


def _signed(digits: str, said: bytes) -> bytes:
    return b"portway pass 1\0" + digits.encode() + b"\0" + said


def _is_signed(public: bytes, signature: str, message: bytes) -> bool:
    # As above: only who uses passes has it.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _refused() -> NotAuthenticated:
    return NotAuthenticated(
        "the token is not valid here; ask the host for one with `portway box token`", reason=Reason.TOKEN_INVALID
    )
