"""Programs that the runtime itself needs for a while. They are started like plugins, and end with the runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from portway.runtime.workers.log import Output, PluginLog
from portway.runtime.workers.messages import Start
from portway.runtime.workers.output_pipes import spawn
from portway.runtime.workers.spawner import Process, Spawner

MEMORY_BYTES = 2 * 1024 * 1024 * 1024
OPEN_FILES = 4096
MAX_LINES = 40
# What it printed last is there at once.
_OUTPUT_SECONDS = 0.5


class Program:
    """A program that runs. What it prints is kept as a plugin's output is: bounded."""

    def __init__(self, process: Process, output: Output, log: PluginLog) -> None:
        self._process = process
        self._output = output
        self._log = log

    async def ended(self) -> bool:
        """Waits for its end; whether it went well."""
        end = await self._process.end
        await self._output.finish(_OUTPUT_SECONDS)
        return not (end.code or end.signal or end.error)

    async def signal(self, number: int) -> None:
        await self._process.signal(number)

    def said(self) -> Sequence[str]:
        """The last lines that it printed."""
        return [line.text for line in self._log.last(MAX_LINES)]


async def run_program(
    spawner: Spawner, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> Program:
    """Starts a program with nothing but this environment. `folder` is its own, and a variable has to name it. Raises
    `Unavailable`."""
    log = PluginLog()
    start = Start(
        id=spawner.next_id(),
        name=Path(arguments[0]).name,
        folder=str(folder),
        arguments=arguments,
        environment=environment,
        memory_bytes=MEMORY_BYTES,
        open_files=OPEN_FILES,
        tag=f"{folder}/",
    )
    process, output = await spawn(spawner, start, log)
    return Program(process, output, log)
