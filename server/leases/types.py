"""What a lease is."""

from dataclasses import dataclass

from portway.server.storage_engine.clock import Micros


@dataclass(frozen=True, slots=True)
class Lease:
    """`fencing_token` grows each time the lease changes hands; a write under an older one is refused."""

    workspace_id: str
    name: str
    holder: str
    fencing_token: int
    expire_time: Micros
