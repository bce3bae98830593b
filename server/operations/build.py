"""Putting together what looks after the host's data."""

from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.rpc.binding import Service
from portway.server.operations.rotation import KeyRotation
from portway.server.operations.servicer import OperationsServicer
from portway.server.retention.config import RetentionConfig
from portway.server.retention.reaper import RetentionReaper
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import Keyring
from portway.v1 import operations_pb2


@dataclass(frozen=True, slots=True)
class Operations:
    """Lives as long as the host."""

    database: Database
    data: Path
    retention: RetentionConfig
    reaper: RetentionReaper
    rotation: KeyRotation

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """Work in the background."""
        return [self.reaper.run(), self.rotation.run()]

    def service(self) -> Service:
        """OperationsService."""
        servicer = OperationsServicer(
            database=self.database,
            data=self.data,
            retention=self.retention,
            reaper=self.reaper,
            rotation=self.rotation,
        )
        return Service(operations_pb2.DESCRIPTOR.services_by_name["OperationsService"], servicer)


def build_operations(database: Database, keyring: Keyring, data: Path, retention: RetentionConfig) -> Operations:
    return Operations(
        database,
        data,
        retention,
        RetentionReaper(database, retention),
        KeyRotation(database, keyring, data / "keys.json"),
    )
