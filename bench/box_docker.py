"""The box on Docker: a warm command against `docker exec`, a new session against `docker run`, in the same run.

    .venv/bin/python -m bench.box_docker [--quick | --full]

The engine is one of the bench's own (`tests/engines`). The floor is the engine's own way, over the same SDK and socket.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker

from bench.box_exec import Session
from bench.kit.numbers import p50
from bench.kit.rows import Options, Row, of_floor, read_options, tell, times_floor
from portway.clients.supervisor.layout import write_private
from portway.rpc.channel import open_channel
from portway.rpc.tokens import mint_token
from tests.engines.dockerd import Dockerd, docker_engine, why_no_docker

CALLERS = 16
READY_SECONDS = 30.0


@contextlib.contextmanager
def box(engine: Dockerd) -> Iterator[tuple[str, str]]:
    """Its address and a token."""
    with tempfile.TemporaryDirectory(prefix="portway-bench-box-") as name:
        folder, token = Path(name), mint_token("admin")
        accepted = {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": "admin", "workspace_id": "*"}
        write_private(folder / "accepted.json", json.dumps({"tokens": [accepted]}))
        settings = {"backend": "docker", "engine": {"docker_socket": engine.socket, "image": engine.image}}
        (folder / "config.yaml").write_text(json.dumps({"box": settings}))
        ready = folder / "ready.json"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "portway.box", "--listen", "127.0.0.1:0", "--log-level", "warning"),
                *("--data", str(folder / "data"), "--credentials", str(folder / "accepted.json")),
                *("--ready-file", str(ready), "--config", str(folder / "config.yaml")),
            ]
        )
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the box did not start")
                time.sleep(0.01)
            yield json.loads(ready.read_text())["address"], token.text
        finally:
            process.terminate()
            process.wait(30)


class ByEngine:
    """The engine's own way: a container that waits, and an exec in it for each command."""

    def __init__(self, engine: Dockerd) -> None:
        self._image = engine.image
        self._api: Any = docker.APIClient(base_url=f"unix://{engine.socket}", version="1.41", num_pools=64)
        self._container = self._new(["sleep", "3600"])
        self._api.start(self._container)

    def _new(self, command: list[str]) -> str:
        config = self._api.create_host_config(network_mode="none")
        return str(self._api.create_container(self._image, command, host_config=config)["Id"])

    def true(self) -> float:
        begun = time.perf_counter()
        made = self._api.exec_create(self._container, ["/bin/true"])["Id"]
        self._api.exec_start(made)
        if self._api.exec_inspect(made)["ExitCode"] != 0:
            raise AssertionError("the command failed")
        return time.perf_counter() - begun

    def run(self) -> float:
        """Until a new container runs."""
        begun = time.perf_counter()
        made = self._new(["sleep", "3600"])
        self._api.start(made)
        taken = time.perf_counter() - begun
        self._api.remove_container(made, force=True)
        return taken

    def close(self) -> None:
        self._api.remove_container(self._container, force=True)
        self._api.close()


async def one_caller(session: Session, by_engine: ByEngine, options: Options) -> Row:
    rounds, count = options.pick(2, 4, 8), options.pick(10, 25, 60)
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(rounds):
        floor += [await asyncio.to_thread(by_engine.true) for _ in range(count)]
        for _ in range(count):
            begun = time.perf_counter()
            await session.true()
            ours.append(time.perf_counter() - begun)
    measured, built = p50(ours) * 1000, p50(floor) * 1000
    return Row(
        "box on Docker: warm exec of true, one caller, p50", measured, "ms", built, times_floor(measured, built, 1)
    )


async def many_callers(session: Session, by_engine: ByEngine, options: Options) -> Row:
    ours, theirs = options.pick(320, 960, 3200), options.pick(48, 96, 320)
    with ThreadPoolExecutor(CALLERS) as threads:
        begun = time.perf_counter()
        list(threads.map(lambda _: by_engine.true(), range(theirs)))
        floor = theirs / (time.perf_counter() - begun)

    async def caller() -> None:
        for _ in range(ours // CALLERS):
            await session.true()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    rate = ours / (time.perf_counter() - begun)
    return Row(f"box on Docker: warm exec of true, {CALLERS} callers", rate, "/s", floor, of_floor(rate, floor, 1))


async def cold(session_of: Any, by_engine: ByEngine, options: Options) -> Row:
    ours: list[float] = []
    floor: list[float] = []
    for number in range(options.pick(4, 10, 30)):
        floor.append(await asyncio.to_thread(by_engine.run))
        session = session_of(f"cold-{number}")
        begun = time.perf_counter()
        await session.create()
        ours.append(time.perf_counter() - begun)
    measured, built = p50(ours) * 1000, p50(floor) * 1000
    return Row("box on Docker: a session made, p50", measured, "ms", built, times_floor(measured, built, 1.5))


async def run(options: Options) -> list[Row]:
    if reason := why_no_docker():
        raise SystemExit(reason)
    engine = docker_engine()
    by_engine = ByEngine(engine)
    try:
        with box(engine) as (address, token):
            async with open_channel(address, token=token) as channel:
                session = Session(channel, "bench")
                await session.create()
                for _ in range(10):
                    await session.true()
                return [
                    await one_caller(session, by_engine, options),
                    await many_callers(session, by_engine, options),
                    await cold(lambda name: Session(channel, name), by_engine, options),
                ]
    finally:
        by_engine.close()


def main() -> None:
    options = read_options(__doc__)
    tell(asyncio.run(run(options)), options)


if __name__ == "__main__":
    main()
