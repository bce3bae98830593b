"""Keys that sign packed plugins: Ed25519, known by a short id."""

import hashlib
import re
from collections.abc import Iterable

PUBLIC_KEY_FORM = "must be 64 hex digits, as `portway plugin keygen` prints them"
SIGNATURE_BYTES = 64
_HEX_KEY = re.compile(r"[0-9a-f]{64}")
_LABEL = "portway plugin 1"


def is_public_key(text: str) -> bool:
    return _HEX_KEY.fullmatch(text) is not None


def key_id_of(public_key: bytes) -> str:
    """Short enough to be read out, long enough that no two keys of an operator meet."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def signed_text(digest: str) -> bytes:
    """What is signed of a zip with this SHA-256 (hex): with a label, so that it is a signature of nothing else."""
    return f"{_LABEL}\n{digest}".encode()


class TrustedKeys:
    """The public keys (hex) whose signatures count."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = {key_id_of(raw): raw for raw in map(bytes.fromhex, keys)}

    def trusts(self, key_id: str) -> bool:
        return key_id in self._keys

    def has_signed(self, key_id: str, digest: str, signature: bytes) -> bool:
        """Whether the key, which is a trusted one, signed the zip with this digest."""
        # Only who gets signed plugins pays for the library.
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        try:
            Ed25519PublicKey.from_public_bytes(self._keys[key_id]).verify(signature, signed_text(digest))
        except (InvalidSignature, ValueError):
            return False
        return True
