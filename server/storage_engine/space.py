"""Unused pages of SQLite's file, given back to the disk in small pieces."""

from portway.server.storage_engine.transaction import Transaction

_AT_ONCE = 256
# So many stay: what was deleted makes room for what comes next without the file growing.
_KEPT = 1_024
_INCREMENTAL = 2


def give_back_pages(tx: Transaction) -> bool:
    """At most one MiB; true where there is more to give."""
    (mode,), (unused,) = tx.one("PRAGMA auto_vacuum") or (0,), tx.one("PRAGMA freelist_count") or (0,)
    if mode != _INCREMENTAL or unused <= _KEPT:
        return False
    for _ in range(min(_AT_ONCE, unused - _KEPT)):
        # One page each: the driver takes one step of this statement, whatever number it names.
        tx.all("PRAGMA incremental_vacuum(1)")
    return bool(unused - _KEPT > _AT_ONCE)
