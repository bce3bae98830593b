"""A runner that does harm to the machine, its neighbours or the runtime: the first word of the message says how."""

import asyncio
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from portway.runtime.sdk import AgentRunner, HostApi, MessageCompleted, Progress, RunContext, RunResult
from portway.v1 import worker_pb2, worker_pb2_grpc

Results = AsyncIterator[RunResult]
_AFTERWARDS = 3600


async def ok(rest: str) -> Results:
    yield MessageCompleted.of_text(rest)


async def bomb(rest: str) -> Results:
    """Has a shell start processes until it may not any more; then there is a file."""
    mark, file = rest.split()
    script = f"(while sleep {mark} & do :; done) 2>/dev/null; : > {file}"
    subprocess.Popen(["sh", "-c", script])  # noqa: ASYNC220 - harm is not done politely
    yield Progress("begun")
    await asyncio.Event().wait()


async def detach(rest: str) -> Results:
    """Leaves a process behind that has another parent, session and group, and nothing of its environment."""
    code = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "print(os.getpid(), flush=True)\n"
        "os.close(1)\n"
        f"time.sleep({_AFTERWARDS})\n"
    )
    left = subprocess.run(  # noqa: ASYNC221 - harm is not done politely
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={}, check=True
    )
    yield Progress(left.stdout.decode())
    await asyncio.Event().wait()


async def shout(rest: str) -> Results:
    """Fills its log as fast as the pipe takes it."""
    line = b"x" * 200 + b"\n"
    thread = threading.Thread(target=_shout, args=(line * 300,), daemon=True)
    thread.start()
    yield Progress("shouting")
    await asyncio.Event().wait()


def _shout(block: bytes) -> None:
    while True:
        os.write(1, block)


async def close_socket(rest: str) -> Results:
    """Closes every descriptor that is a socket, its own listening one among them."""
    yield Progress("closing")
    for name in os.listdir("/proc/self/fd"):
        if _link(name).startswith("socket:"):
            os.close(int(name))
    await asyncio.Event().wait()


def _link(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return ""


async def open_all(rest: str) -> Results:
    """Opens files until it may not any more."""
    opened: list[int] = []
    try:
        while len(opened) < 100_000:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        for one in opened:
            os.close(one)
        yield MessageCompleted.of_text(f"{len(opened) < 128} {error.strerror}")


async def eat(rest: str) -> Results:
    """Takes memory bit by bit, and uses it."""
    yield Progress("eating")
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1024 * 1024)))


async def deaf(rest: str) -> Results:
    """Ignores the signal that asks it to end, and every cancel."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield Progress("deaf")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def stuck(rest: str) -> Results:
    """Blocks every signal and sleeps in C, holding the interpreter: nothing of Python runs any more."""
    yield Progress("stuck")
    await asyncio.sleep(0.05)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    ctypes.PyDLL(None).sleep(_AFTERWARDS)


async def dial(rest: str) -> Results:
    """Calls every other plugin's socket that it finds, with what it knows; says what became of it."""
    own = Path(os.environ["PORTWAY_SOCKET"])
    others = [one for one in own.parent.parent.glob("*/socket") if one != own]
    cookies = [one.read_text() for one in own.parent.parent.glob("*/cookie")]
    codes = []
    for other in others:
        for cookie in ("", "0" * 64, *cookies):
            async with grpc.aio.insecure_channel(f"unix:{other}") as channel:
                worker = worker_pb2_grpc.WorkerServiceStub(channel)
                try:
                    await worker.Ping(worker_pb2.PingRequest(), metadata=[("authorization", f"Bearer {cookie}")])
                    codes.append("OK")
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code().name)
    yield MessageCompleted.of_text(f"{len(others)} {len(cookies)} {' '.join(sorted(set(codes)))}")


async def descriptors(rest: str) -> Results:
    """What it has open: its output, its own connection, and nothing of anybody else."""
    kinds = sorted({_link(name).partition(":")[0].partition(" ")[0] for name in os.listdir("/proc/self/fd")})
    core, _ = resource.getrlimit(resource.RLIMIT_CORE)
    yield MessageCompleted.of_text(f"{core} {' '.join(kinds)}")


async def listen(rest: str) -> Results:
    """Takes the place of its own socket with one that answers nothing."""
    path = os.environ["PORTWAY_SOCKET"]
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(path)
        taken.listen()
        yield Progress("listening")
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()


_HARM: dict[str, Callable[[str], Results]] = {
    one.__name__: one
    for one in (ok, bomb, detach, shout, close_socket, open_all, eat, deaf, stuck, dial, descriptors, listen)
}


class Hostile(AgentRunner):
    def run(self, ctx: RunContext, host: HostApi) -> Results:
        word, _, rest = ctx.input.text.partition(" ")
        return _HARM[word](rest)
