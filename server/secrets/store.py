"""Where secrets are kept."""

from typing import Protocol

import structlog

from portway.rpc.errors import DataLoss, NotFound
from portway.server.secrets.types import SecretInfo, SecretValue
from portway.server.storage_engine.keyring import Keyring, Sealed
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import ReadTransaction, SqlValue, Transaction

_log = structlog.get_logger()

_COLUMNS = columns(SecretInfo)
_OPEN = "SELECT key_id, ciphertext FROM secrets WHERE workspace_id = :workspace_id AND secret_id = :secret_id"
_PAGE = f"""
SELECT {_COLUMNS} FROM secrets WHERE workspace_id = :workspace_id AND secret_id > :after
ORDER BY secret_id LIMIT :limit
"""
_PUT = """
INSERT INTO secrets (workspace_id, secret_id, key_id, ciphertext, update_time)
VALUES (:workspace_id, :secret_id, :key_id, :ciphertext, :now)
ON CONFLICT (workspace_id, secret_id) DO UPDATE SET key_id = :key_id, ciphertext = :ciphertext, update_time = :now
"""
_LIKE = """
SELECT workspace_id, secret_id, key_id, ciphertext FROM secrets WHERE secret_id LIKE :prefix
ORDER BY workspace_id, secret_id
"""
_DELETE = "DELETE FROM secrets WHERE workspace_id = :workspace_id AND secret_id = :secret_id"
_OLD = """
SELECT workspace_id, secret_id, key_id, ciphertext FROM secrets WHERE key_id <> :key_id
ORDER BY workspace_id, secret_id LIMIT :limit
"""
_RESEAL = """
UPDATE secrets SET key_id = :key_id, ciphertext = :ciphertext
WHERE workspace_id = :workspace_id AND secret_id = :secret_id
"""


class Secrets(Protocol):
    """What can be asked about secrets."""

    async def secret(self, workspace_id: str, secret_id: str) -> SecretValue:
        """The secret itself, for the one call that needs it. Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[SecretInfo]:
        """By id, after the id `after` ('' to begin); never the secrets themselves."""


def put_secret(tx: Transaction, keyring: Keyring, workspace_id: str, secret_id: str, value: str) -> None:
    """Keep a secret, encrypted under the newest key; an earlier value is replaced."""
    sealed = keyring.seal(value.encode(), _context(workspace_id, secret_id))
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "secret_id": secret_id,
        "key_id": sealed.key_id,
        "ciphertext": sealed.ciphertext,
        "now": tx.now,
    }
    tx.execute(_PUT, params)


def remove_secret(tx: Transaction, workspace_id: str, secret_id: str) -> None:
    """Raises NotFound."""
    if not tx.execute(_DELETE, {"workspace_id": workspace_id, "secret_id": secret_id}):
        raise NotFound.of("secret", secret_id)


def has_secret(tx: ReadTransaction, workspace_id: str, secret_id: str) -> bool:
    """Whether it is kept."""
    return tx.one(_OPEN, {"workspace_id": workspace_id, "secret_id": secret_id}) is not None


def open_secrets(tx: ReadTransaction, keyring: Keyring, prefix: str) -> dict[tuple[str, str], str]:
    """The secrets of every workspace whose ids begin with `prefix`, by (workspace, id).

    One whose key is lost is left out, and the log says so: the host must start so that it can be set again.
    """
    opened: dict[tuple[str, str], str] = {}
    for workspace_id, secret_id, key_id, ciphertext in tx.all(_LIKE, {"prefix": f"{prefix}%"}):
        try:
            plain = keyring.open(Sealed(key_id, ciphertext), _context(workspace_id, secret_id))
        except DataLoss as error:
            _log.warning("secret cannot be read", secret=secret_id, reason=error.message)
            continue
        if secret_id.startswith(prefix):
            opened[workspace_id, secret_id] = plain.decode()
    return opened


def reseal_secrets(tx: Transaction, keyring: Keyring, limit: int) -> int:
    """After a rotation: encrypt secrets of older keys under the newest; answers how many. Called until it answers 0."""
    rows = tx.all(_OLD, {"key_id": keyring.newest, "limit": limit})
    for workspace_id, secret_id, key_id, ciphertext in rows:
        context = _context(workspace_id, secret_id)
        sealed = keyring.seal(keyring.open(Sealed(key_id, ciphertext), context), context)
        tx.execute(
            _RESEAL,
            {
                "workspace_id": workspace_id,
                "secret_id": secret_id,
                "key_id": sealed.key_id,
                "ciphertext": sealed.ciphertext,
            },
        )
    return len(rows)


def _context(workspace_id: str, secret_id: str) -> str:
    # Bound to its place: a ciphertext moved to another row does not open.
    return f"secret\0{workspace_id}\0{secret_id}"


class StoredSecrets:
    """Secrets in the database."""

    def __init__(self, reader: Reader, keyring: Keyring) -> None:
        self._reader = reader
        self._keyring = keyring

    async def secret(self, workspace_id: str, secret_id: str) -> SecretValue:
        params = {"workspace_id": workspace_id, "secret_id": secret_id}
        row = await self._reader.run(lambda tx: tx.one(_OPEN, params))
        if row is None:
            raise NotFound.of("secret", secret_id)
        plain = self._keyring.open(Sealed(row[0], row[1]), _context(workspace_id, secret_id))
        return SecretValue(plain.decode())

    async def page(self, workspace_id: str, after: str, limit: int) -> list[SecretInfo]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [SecretInfo(*row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
