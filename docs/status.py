"""Writes docs/status.md (`make docs`): starts an installation, asks each server what it serves, prints the page."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from portway.rpc.channel import open_channel
from portway.rpc.describe import describe, served_methods

SERVERS = ("host", "runtime", "box")
START_SECONDS = 60


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="portway-docs-") as folder:
        ready_file = Path(folder, "ready.json")
        command = ["portway", "up", "--data", f"{folder}/data", "--port", "0", "--web-port", "0"]
        # The command line remembers the last start; this one is not for remembering.
        environment = {
            **os.environ,
            "XDG_STATE_HOME": folder,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        running = subprocess.Popen(
            [*command, "--ready-file", str(ready_file)], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            ready = wait_until_ready(ready_file, running)
            token = Path(ready["token_file"]).read_text(encoding="ascii").strip()
            print(asyncio.run(page({server: ready[server] for server in SERVERS if ready.get(server)}, token)), end="")
        finally:
            running.terminate()
            running.wait(START_SECONDS)
    return 0


def wait_until_ready(ready_file: Path, running: subprocess.Popen[bytes]) -> dict[str, str]:
    until = time.monotonic() + START_SECONDS
    while not ready_file.exists():
        if running.poll() is not None or time.monotonic() > until:
            sys.exit("docs/status.py: `portway up` did not become ready; what it says is above")
        time.sleep(0.05)
    ready: dict[str, str] = json.loads(ready_file.read_text(encoding="utf-8"))
    return ready


async def page(addresses: dict[str, str], token: str) -> str:
    served = {}
    for server, address in addresses.items():
        async with open_channel(address, token=token) as channel:
            served[server] = await served_methods(channel)
    return describe(served)


if __name__ == "__main__":
    sys.exit(main())
