"""Starts a process with pipes for what it prints."""

import os

from portway.runtime.workers.log import Output, PluginLog
from portway.runtime.workers.messages import Start
from portway.runtime.workers.spawner import Process, Spawner


async def spawn(spawner: Spawner, start: Start, log: PluginLog) -> tuple[Process, Output]:
    """The process, and what reads its output into `log`. Raises `Unavailable`."""
    out, err = os.pipe(), os.pipe()
    try:
        process = await spawner.start(start, out[1], err[1])
    except BaseException:
        os.close(out[0])
        os.close(err[0])
        raise
    finally:
        os.close(out[1])
        os.close(err[1])
    return process, Output(out[0], err[0], log)
