"""How long `portway up` takes until everything serves, and what it needs while nobody asks anything of it.

    .venv/bin/python -m bench.start [--quick | --full]

The first start makes the database; the later ones open it. The floor of a start is an empty gRPC server in Python, from
its command to its port. Memory is that of each part once it has been ready for a while, and of a plugin's process.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench.kit import machine
from bench.kit.rows import Options, Row, at_most, read_options, tell
from bench.kit.stack import Stack, installation
from portway.clients.host import Portway
from portway.clients.run_view import RunEnded, RunView

SETTLE_SECONDS = 3.0
GOALS = {"host": 110.0, "runtime": 60.0, "box": 60.0}
EMPTY_SERVER = """
import asyncio, grpc
async def main():
    server = grpc.aio.server()
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""
BARE_PYTHON = "import time; print(flush=True); time.sleep(60)"


def empty_server() -> tuple[float, float]:
    """Seconds until an empty gRPC server has its port, and its PSS in MiB."""
    return _start(EMPTY_SERVER)


def _start(program: str) -> tuple[float, float]:
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begun
        pss, _ = machine.memory(process.pid)
        process.kill()
    return seconds, pss


async def say_something(stack: Stack) -> None:
    """The first run starts its plugin."""
    async with Portway(stack.host, token=stack.token) as host:
        accepted = await host.send("Hello")
        view = RunView()
        async for event in host.runs.watch(accepted.run_id):
            for change in view.apply(event):
                if isinstance(change, RunEnded) and change.error is not None:
                    raise AssertionError(f"the first run failed: {change.error.message}")


def memory_rows(stack: Stack, when: str) -> list[Row]:
    """Parts with the processes that they have started."""
    rows = []
    parts = {name: pid for name, pid in stack.pids.items() if name != "up"}
    for name, pid in parts.items():
        own, below = machine.memory(pid), [machine.memory(child) for child in machine.family(pid)[1:]]
        goal = at_most(own[0], GOALS[name], "MiB") if name in GOALS else None
        more = f"; {len(below)} processes below it: {sum(pss for pss, _ in below):.0f} MiB" if below else ""
        rows.append(
            Row(f"memory of {name}, {when} (PSS)", own[0], "MiB", goal=goal, note=f"RSS {own[1]:.0f} MiB{more}")
        )
    return rows


def plugin_row(stack: Stack) -> Row | None:
    """The smallest process that the runtime has for a plugin; below it there may be a parent that forks."""
    sizes = [machine.memory(child)[0] for child in machine.family(stack.pids["runtime"])[1:]]
    if not sizes:
        return None
    _, bare = _start(BARE_PYTHON)
    size = min(sizes)
    return Row("memory of a plugin's process (PSS)", size, "MiB", bare, at_most(size, 25, "MiB"), "floor: bare Python")


def measure(options: Options) -> list[Row]:
    first, later, rows = [], [], list[Row]()
    for _ in range(options.pick(1, 2)):
        with tempfile.TemporaryDirectory(prefix="portway-bench-") as name:
            folder = Path(name)
            with installation(folder=folder) as stack:
                first.append(stack.start_seconds)
            for _ in range(options.pick(1, 2)):
                with installation(folder=folder) as stack:
                    later.append(stack.start_seconds)
                    if not rows:
                        time.sleep(SETTLE_SECONDS)
                        rows += memory_rows(stack, "idle")
                        uvloop.run(say_something(stack))
                        time.sleep(SETTLE_SECONDS)
                        rows += memory_rows(stack, "after a run")
                        plugin = plugin_row(stack)
                        rows += [plugin] if plugin else []
    bare = statistics.median(empty_server()[0] for _ in range(3))
    begin, again = statistics.median(first), statistics.median(later)
    return [
        Row("start to ready, new data folder", begin, "s", bare, at_most(begin, 2, "s")),
        Row("start to ready, again", again, "s", bare, at_most(again, 2, "s")),
        *rows,
    ]


def main() -> int:
    options = read_options(__doc__)
    print("portway up with all parts, all cores", flush=True)
    tell(measure(options), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
