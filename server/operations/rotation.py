"""A new encryption key, and everything brought under it, unit by unit, also across kills."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from portway.rpc.errors import LimitExceeded, PortwayError, Reason, WrongState
from portway.rpc.identity import Caller
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.secrets.store import reseal_secrets
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import Key, Keyring, new_key, save_keyring
from portway.server.storage_engine.transaction import ReadTransaction, Transaction

_AT_ONCE = 50
_REST = 0.02
_AGAIN_SECONDS = 30.0
_ACTION = "encryption.rotate"
_REMAINING = "SELECT COUNT(*) FROM secrets WHERE key_id <> :key_id"
_ASKED = """
SELECT 1 FROM audit WHERE workspace_id = :workspace_id AND action = 'encryption.rotate' AND details = :details LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class EncryptionState:
    """`remaining`: secrets that lie under the old keys."""

    key_id: str
    old_key_ids: tuple[str, ...]
    remaining: int


class KeyRotation:
    """`run` must be running: it finishes what was begun, in this life of the host or an earlier one."""

    def __init__(self, database: Database, keyring: Keyring, file: Path) -> None:
        self._database = database
        self._keyring = keyring
        self._file = file
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._log = structlog.get_logger("portway.server.operations")
        if len(keyring.keys) > 1:
            self._wake.set()

    async def state(self) -> EncryptionState:
        """How secrets lie now."""
        newest, *old = (key.key_id for key in self._keyring.keys)
        return EncryptionState(newest, tuple(old), await self._database.reader.run(self._remaining))

    async def rotate(self, caller: Caller, request_id: str) -> EncryptionState:
        """Make a new key; what lies under old ones follows in the background.

        Raises WrongState while a rotation is under way; LimitExceeded when the disk is full.
        """
        async with self._one_at_a_time:
            details = f"request {request_id}" if request_id else ""
            if details and await self._was_asked(caller.workspace_id, details):
                return await self.state()
            if len(self._keyring.keys) > 1:
                raise WrongState(
                    "A rotation is under way: secrets are still being brought under the newest key. Ask again when "
                    "`portway db encryption` shows no older key."
                )
            key = new_key()
            # On disk before anything is encrypted with it.
            await self._save((key, *self._keyring.keys))
            self._keyring.add(key)
            told = NewAuditRecord(
                workspace_id=caller.workspace_id,
                action=_ACTION,
                resource=key.key_id,
                allowed=True,
                role=caller.role.name.lower(),
                subject=caller.subject,
                token_id=caller.token_id,
                details=details,
            )
            await self._database.writer.run(lambda tx: append_audit(tx, [told]))
        self._wake.set()
        return await self.state()

    async def _was_asked(self, workspace_id: str, details: str) -> bool:
        params = {"workspace_id": workspace_id, "details": details}
        return await self._database.reader.run(lambda tx: tx.one(_ASKED, params)) is not None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._finish()
            except PortwayError as error:
                self._log.error("secrets could not be encrypted anew; it is tried again", error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
                self._wake.set()

    async def _finish(self) -> None:
        resealed = True
        while resealed:
            resealed = await self._database.writer.run(self._reseal) > 0
            await asyncio.sleep(_REST)
        async with self._one_at_a_time:
            if len(self._keyring.keys) == 1 or await self._database.reader.run(self._remaining) > 0:
                return
            newest = self._keyring.keys[0]
            await self._save((newest,))
            self._keyring.keep_newest()
        self._log.info("every secret is under the newest key; older ones were dropped", key=newest.key_id)

    def _reseal(self, tx: Transaction) -> int:
        return reseal_secrets(tx, self._keyring, _AT_ONCE)

    def _remaining(self, tx: ReadTransaction) -> int:
        row = tx.one(_REMAINING, {"key_id": self._keyring.newest})
        return int(row[0]) if row else 0

    async def _save(self, keys: tuple[Key, ...]) -> None:
        try:
            await asyncio.to_thread(save_keyring, self._file, self._keyring.with_keys(keys))
        except OSError as error:
            if error.errno in (28, 122):
                raise LimitExceeded(
                    "The disk that holds the key file is full; the keys are as they were. Free space there.",
                    reason=Reason.DISK_FULL,
                ) from error
            raise WrongState(
                f"The key file cannot be written ({error.strerror}); the keys are as they were."
            ) from error
