"""The host's keys: secrets are encrypted at rest, and each ciphertext names the key that opens it: keys can change."""

import hashlib
import hmac
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from portway.rpc.errors import DataLoss, Reason, WrongState
from portway.server.storage_engine.location import sync_folder

_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext and the key that opens it."""

    key_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key. It does not print."""

    key_id: str
    material: bytes = field(repr=False)


class Keyring:
    """Keys, the newest first. Older ones only open.

    `derived` are keys for other purposes that were made of a key that has been dropped since: they stay as they are.
    """

    def __init__(self, keys: tuple[Key, ...], derived: Mapping[str, bytes] | None = None) -> None:
        if not keys:
            raise ValueError("a keyring has at least one key")
        self._keys = {key.key_id: key for key in keys}
        self.newest = keys[0].key_id
        self._oldest = keys[-1]
        self._derived = dict(derived or {})

    def seal(self, plain: bytes, context: str) -> Sealed:
        """Encrypt under the newest key, bound to `context`: elsewhere it does not open."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._keys[self.newest].material).encrypt(nonce, plain, context.encode())
        return Sealed(self.newest, nonce + sealed)

    def open(self, sealed: Sealed, context: str) -> bytes:
        """Raises DataLoss when the key is missing or the ciphertext is not from this place."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise DataLoss(
                f"A secret is encrypted with the key {sealed.key_id}, which is not in the key file. Put the old key "
                "file back, or set the secret again.",
            )
        try:
            return AESGCM(key.material).decrypt(
                sealed.ciphertext[:_NONCE_BYTES], sealed.ciphertext[_NONCE_BYTES:], context.encode()
            )
        except InvalidTag:
            raise DataLoss("A stored secret does not open: it was altered or moved. Set the secret again.") from None

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for another purpose (signing cursors, say).

        It stays the same also when the key that it was made of is dropped, once it was asked for.
        """
        if purpose not in self._derived:
            self._derived[purpose] = hmac.digest(self._oldest.material, f"portway/{purpose}".encode(), hashlib.sha256)
        return self._derived[purpose]

    def rotated(self) -> "Keyring":
        """The same with a new newest key."""
        return Keyring((new_key(), *self._keys.values()), self._derived)

    def with_keys(self, keys: tuple[Key, ...]) -> "Keyring":
        """Other keys, the newest first; what was derived stays."""
        return Keyring(keys, self._derived)

    def add(self, key: Key) -> None:
        """From now on everything is encrypted with this key. It is in the key file already."""
        # Other threads look at these: each is replaced in one step, and the new key can open before it seals.
        self._keys = {key.key_id: key, **self._keys}
        self.newest = key.key_id

    def keep_newest(self) -> None:
        """Drop all other keys: nothing lies under them any more."""
        self._keys = {self.newest: self._keys[self.newest]}
        self._oldest = self._keys[self.newest]

    @property
    def derived(self) -> Mapping[str, bytes]:
        """By purpose."""
        return self._derived

    @property
    def keys(self) -> tuple[Key, ...]:
        """The newest first."""
        return tuple(self._keys.values())


def load_keyring(path: Path) -> Keyring:
    """Read the key file, made with a first key when there is none.

    Raises WrongState when others may read it or it is not a key file: a lost key makes every secret unreadable, so
    nothing is ever written over it here.
    """
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        keyring = Keyring((new_key(),))
        save_keyring(path, keyring)
        return keyring
    if mode & 0o077:
        raise WrongState(
            f"The key file {path} can be read by other users (mode {mode:04o}). Run `chmod 600 {path}`.",
            reason=Reason.NOT_CONFIGURED,
        )
    try:
        document = json.loads(path.read_text())
        keys = tuple(Key(str(item["id"]), b64decode(item["key"], validate=True)) for item in document["keys"])
        derived = {str(name): b64decode(key, validate=True) for name, key in document.get("derived", {}).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise WrongState(_damaged(path), reason=Reason.NOT_CONFIGURED) from error
    if not keys or any(len(key.material) != _KEY_BYTES for key in keys):
        raise WrongState(_damaged(path), reason=Reason.NOT_CONFIGURED)
    return Keyring(keys, derived)


def save_keyring(path: Path, keyring: Keyring) -> None:
    """Write the key file, mode 0600, whole or not at all, on disk before this returns."""
    document: dict[str, object] = {
        "keys": [{"id": key.key_id, "key": b64encode(key.material).decode()} for key in keyring.keys]
    }
    if keyring.derived:
        document["derived"] = {name: b64encode(key).decode() for name, key in keyring.derived.items()}
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_folder(path.parent)


def new_key() -> Key:
    """A key that nobody has."""
    return Key(f"key_{secrets.token_hex(8)}", secrets.token_bytes(_KEY_BYTES))


def _damaged(path: Path) -> str:
    return (
        f"The file {path} is not a Portway key file. Put the right one back: stored secrets cannot be read without it."
    )
