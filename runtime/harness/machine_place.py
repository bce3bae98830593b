"""This machine itself, with the rights of the runtime's user: only where its operator says so."""

import asyncio
import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from portway.runtime.harness.failures import CONFIG, NO_PLACE
from portway.runtime.harness.machine_files import plain_files
from portway.runtime.harness.machine_policy import MachinePolicy, allowed_directory, machine_policy
from portway.runtime.harness.machine_program import MachineProgram, start_program
from portway.runtime.harness.places import BridgeWay, FileRefused, Files, Folders, Link, MadeFile, ModelUrls
from portway.runtime.harness.program import Launch
from portway.runtime.sdk import RunContext, RunFailure

WORKSPACES = ".portway-workspaces"
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_DAY_SECONDS = 86_400.0
_MAX_SWEPT = 1000


class MachinePlace:
    """Implements `Place`. `own` is the folder of this conversation, beneath the first root."""

    def __init__(self, ctx: RunContext, policy: MachinePolicy, own: Path) -> None:
        self.folders = Folders(f"{own}/runs/{ctx.run_id}", f"{own}/home", f"{own}/work")
        # The files of skills are in box sessions; on the machine there are none.
        self.skills: Sequence[tuple[str, str]] = ()
        self._policy = policy
        self._url = ctx.runtime.model_gateway_url
        self._bridge_url = ctx.runtime.bridge_url
        # Lies in the plugin's own folder: what has it in its environment is ended with the plugin.
        self._tmp = f"{os.environ['TMPDIR']}/{ctx.run_id}"

    async def write(self, files: Files) -> None:
        await asyncio.to_thread(self._write, files)

    def _write(self, files: Files) -> None:
        for folder in (*self.folders_list(), self._tmp):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        for path, content in files.items():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            unfinished = f"{path}.new"
            Path(unfinished).unlink(missing_ok=True)
            if content is None:
                os.makedirs(path, mode=0o700, exist_ok=True)
                continue
            if isinstance(content, Link):
                os.symlink(content.target, unfinished)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with open(os.open(unfinished, flags, 0o600), "wb") as file:
                    file.write(content)
            os.replace(unfinished, path)

    def folders_list(self) -> tuple[str, str, str]:
        return (self.folders.run, self.folders.home, self.folders.work)

    async def resolve(self, directory: str) -> str:
        wanted = directory or self.folders.work
        with allowed_directory(wanted, self._policy):
            return wanted

    async def receive(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        try:
            await asyncio.to_thread(os.makedirs, os.path.dirname(path), 0o700, True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.fdopen(await asyncio.to_thread(os.open, path, flags, 0o600), "wb")
            try:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            finally:
                file.close()
        except OSError as error:
            raise FileRefused(f"{path} could not be written: {error.strerror}") from error

    @asynccontextmanager
    async def made_files(self, folder: str, since: str, most: int) -> AsyncIterator[Sequence[MadeFile]]:
        with ExitStack() as stack:
            directory = stack.enter_context(allowed_directory(folder, self._policy))
            newer = os.stat(since).st_mtime_ns if since else 0
            yield await asyncio.to_thread(plain_files, stack, directory, newer, most)

    @asynccontextmanager
    async def models(self) -> AsyncIterator[ModelUrls]:
        if not self._url:
            raise RunFailure(
                NO_PLACE, "the host serves no model gateway for programs of this machine: set host.http_listen"
            )
        yield ModelUrls(f"{self._url}/openai/v1", f"{self._url}/anthropic")

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[BridgeWay | None]:
        yield BridgeWay(self._bridge_url, python=sys.executable) if self._bridge_url else None

    @asynccontextmanager
    async def start(self, launch: Launch) -> AsyncIterator[MachineProgram]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"TMPDIR": self._tmp, **launch.environment}
        with allowed_directory(launch.working_directory, self._policy) as directory:
            async with start_program(launch.argv, environment, directory, f"{self._tmp}") as program:
                yield program

    async def remove(self) -> None:
        for folder in (self.folders.run, self._tmp):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def open_machine(ctx: RunContext) -> AsyncIterator[MachinePlace]:
    """Raises `RunFailure` (`harness.no_place`)."""
    policy = machine_policy()
    if "TMPDIR" not in os.environ or not policy.working_directories:
        raise RunFailure(CONFIG, "runtime.host_harness names no working_directories")
    root = Path(policy.working_directories[0]) / WORKSPACES
    key = "\0".join((ctx.conversation.workspace_id, ctx.agent_id, ctx.conversation.conversation_id or ctx.run_id))
    own = root / hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        await asyncio.to_thread(prepare_workspace, root, own, policy.workspace_days, time.time())
    except OSError as error:
        raise RunFailure(NO_PLACE, f"no workspace can be made in {root}: {error.strerror}") from error
    place = MachinePlace(ctx, policy, own)
    try:
        yield place
    finally:
        await asyncio.shield(place.remove())


def prepare_workspace(root: Path, own: Path, days: float, now: float) -> None:
    """Makes the workspace, and removes those that nobody used for so long. Raises `RunFailure`, OSError.

    `now` is in seconds of the wall clock, as times of files are.
    """
    for folder in (root, own, own / "work"):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise RunFailure(NO_PLACE, f"{folder} is a link, which is no place for workspaces: remove it")
    os.utime(own, (now, now))
    oldest = now - days * _DAY_SECONDS
    with os.scandir(root) as entries:
        for _, entry in zip(range(_MAX_SWEPT), entries, strict=False):
            if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                shutil.rmtree(entry.path, ignore_errors=True)
