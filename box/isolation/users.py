"""One user id for each session: two sessions of one user could use up each other's per-user limits, or more."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from portway.rpc.errors import LimitExceeded

# Above what distributions hand out to people, services and containers, below the overflow ids.
FIRST_USER = 1_879_048_192
USER_COUNT = 65_536
# Who unpacks images and owns them: no session is ever this user.
IMAGE_OWNER = FIRST_USER - 1


class UserLease:
    """A user id that no other session of this machine has until it is given back (or this process is gone)."""

    def __init__(self, user: int, lock: int) -> None:
        self.user = user
        self._lock = lock

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class UserPool:
    """Gives out user ids; a locked file for each keeps several boxes on one machine apart."""

    def __init__(self, locks: Path, first: int = FIRST_USER, count: int = USER_COUNT) -> None:
        self._locks = locks
        self._first = first
        self._count = count
        self._next = 0
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self, wanted: int | None = None) -> UserLease:
        """A free id; `wanted` first, for a session that comes back and owns files already."""
        for user in self._candidates(wanted):
            lock = os.open(self._locks / str(user), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return UserLease(user, lock)
        raise LimitExceeded(f"all {self._count} user ids for sessions are in use; delete sessions")

    def _candidates(self, wanted: int | None) -> Iterator[int]:
        if wanted is not None and self._first <= wanted < self._first + self._count:
            yield wanted
        for _ in range(self._count):
            yield self._first + self._next
            # Never the one just given back first: something of its last holder may still be going away.
            self._next = (self._next + 1) % self._count

    def forget(self, user: int) -> None:
        """Removes the lock file of an id that is not held."""
        with suppress(FileNotFoundError):
            (self._locks / str(user)).unlink()
