"""Watches folders of plugins while somebody works on them: a change that has settled is taken up."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

import structlog

from portway.runtime.plugins.discover import MAX_PLUGINS
from portway.runtime.plugins.folder import UnusableFolder, digest_of
from portway.runtime.plugins.plugin_manifest import MANIFEST

# Looking takes at most a twentieth of a processor, however many files there are.
_SHORTEST_PAUSE, _PAUSE_PER_LOOK = 0.25, 20.0


@asynccontextmanager
async def reloading(roots: Sequence[Path], reload: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Watches for the time of the block. `reload` is told of problems by itself and raises none."""
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(roots, reload), name="watch plugin folders")
        try:
            yield
        finally:
            watching.cancel()


async def _watch(roots: Sequence[Path], reload: Callable[[], Awaitable[None]]) -> None:
    log = structlog.get_logger("portway.runtime.plugins")
    # Nothing is known at first: what changed since the runtime itself looked would never be seen.
    known = last = ""
    pause = _SHORTEST_PAUSE
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        now = await asyncio.to_thread(_print_of, roots)
        pause = max(_SHORTEST_PAUSE, (time.monotonic() - begun) * _PAUSE_PER_LOOK)
        # An editor or a build writes several files: they are left alone until two looks see the same.
        if now == last and now != known:
            log.info("plugin folders changed")
            known = now
            await reload()
        last = now


def _print_of(roots: Sequence[Path]) -> str:
    """Changes when a file of a plugin does. Blocking."""
    whole = hashlib.sha256()
    for folder in islice(_folders(roots), MAX_PLUGINS):
        try:
            told = digest_of(folder)
        except UnusableFolder as error:
            told = str(error)
        whole.update(f"{folder}\0{told}\n".encode())
    return whole.hexdigest()


def _folders(roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        if (root / MANIFEST).exists():
            yield root
            continue
        with suppress(OSError):
            yield from (one for one in sorted(root.iterdir()) if one.is_dir() and one.name[0] not in "._")
