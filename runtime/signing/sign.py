"""For who makes plugins: a key, and signatures of zips with it."""

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.kit.folder import Unusable
from portway.runtime.signing.keys import key_id_of, signed_text

SUFFIX = ".sig"


@dataclass(frozen=True, slots=True)
class MadeKey:
    """`public_key` in hex is what operators trust."""

    key_id: str
    public_key: str


def make_key(path: Path) -> MadeKey:
    """Writes a new private key that only its owner may read. Raises `Unusable` where the file is there."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only who signs pays for the library
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Unusable(f"{path} is there already; a key is never written over") from None
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    public = key.public_key().public_bytes_raw()
    return MadeKey(key_id_of(public), public.hex())


def sign(zip_file: Path, key_file: Path) -> Path:
    """Writes the signature beside the zip and returns where it is. Raises `Unusable`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        if key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Unusable(f"{key_file} may be read by others; chmod 600 it, and make a new key if they did")
        key = load_pem_private_key(key_file.read_bytes(), password=None)
        digest = _digest_of(zip_file)
    except OSError as error:
        raise Unusable(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise Unusable(f"{key_file} is no private key without a password; `portway plugin keygen` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Unusable(f"{key_file} is no Ed25519 key; `portway plugin keygen` makes one")
    written = {
        "key_id": key_id_of(key.public_key().public_bytes_raw()),
        "digest": digest,
        "signature": key.sign(signed_text(digest)).hex(),
    }
    target = zip_file.with_name(zip_file.name + SUFFIX)
    try:
        target.write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise Unusable(f"{target} cannot be written: {error.strerror}") from None
    return target


def _digest_of(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
