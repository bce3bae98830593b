"""`portway box cp`: files and directories to and from a session."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from portway.clients import local_archive
from portway.clients.box import CALL_SECONDS, FRAME_BYTES
from portway.clients.cli import session
from portway.clients.cli.box.reaching import Json, ReachedBox, Workspace, reached
from portway.clients.cli.box.standard_input import pieces
from portway.clients.endpoint import Endpoint
from portway.rpc.errors import InvalidInput, NotFound
from portway.rpc.status import errors_by_meaning
from portway.v1 import file_pb2

_STREAM = "-"


def register(box: typer.Typer) -> None:
    box.command("cp")(copy)


@dataclass(frozen=True, slots=True)
class Place:
    """A path of a session, or of this machine where `session_id` is ''."""

    session_id: str
    path: str

    @classmethod
    def of(cls, text: str) -> "Place":
        """`SESSION:/path` is a place in a session; `./a:b`, with a slash before the colon, is one here."""
        head, colon, path = text.partition(":")
        if colon and head and "/" not in head:
            return cls(head, path or ".")
        return cls("", text)


def copy(
    source: Annotated[str, typer.Argument(help="SESSION:/path, a path here, or - for standard input.")],
    target: Annotated[str, typer.Argument(help="SESSION:/path, a path here, or - for standard output.")],
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """Copy a file or a directory, one way or the other. Into a directory it goes under its own name."""
    there, here = Place.of(source), Place.of(target)

    async def work(endpoint: Endpoint) -> None:
        if bool(there.session_id) == bool(here.session_id):
            raise InvalidInput("one of the two is SESSION:/path and the other a path here, or `-`")
        async with reached(endpoint, workspace) as found:
            if there.session_id:
                done = await _Copier(found, there.session_id).fetch(there.path, here.path)
            else:
                done = await _Copier(found, here.session_id).send(there.path, here.path)
        if as_json:
            session.print_json({"files": done})
        elif _STREAM not in (source, target):
            typer.echo(f"{done} {'file' if done == 1 else 'files'}", err=True)

    session.run(work)


class _Copier:
    def __init__(self, found: ReachedBox, session_id: str) -> None:
        self._box = found.box
        self._session_id = session_id
        self._workspace_id = found.workspace_id

    async def fetch(self, source: str, target: str) -> int:
        """Returns how many files."""
        if target == _STREAM:
            async for piece in self._read(source):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return 1
        place = Path(target)
        name = PurePosixPath(source).name
        found = await self._stat(source)
        if found is None:
            raise NotFound(f"there is nothing at {source} in session {self._session_id!r}")
        if os.path.isdir(place) and name not in ("", ".."):  # noqa: ASYNC240 - a command line has nothing else to do
            place /= name
        try:
            if found.type == file_pb2.FILE_TYPE_DIRECTORY:
                place.mkdir(exist_ok=True)
                archive = self._box.download(self._session_id, source, workspace_id=self._workspace_id)
                taken = await local_archive.unpack(archive, place)
                for skipped in taken.skipped:
                    typer.echo(f"portway: {skipped}: left out, it would lead out of {place}", err=True)
                return taken.files
            await self._write_here(source, place, executable=bool(found.mode & 0o111))
        except OSError as error:
            raise InvalidInput(f"{place}: cannot be written ({error.strerror}); choose another target") from error
        return 1

    async def _write_here(self, source: str, place: Path, *, executable: bool) -> None:
        """Whole or not at all: what was there before stays until the new one is complete."""
        writing = place.with_name(f".{place.name}.{os.getpid()}.part")
        descriptor = os.open(
            writing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if executable else 0o666
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for piece in self._read(source):
                    await asyncio.to_thread(file.write, piece)
            writing.rename(place)
        finally:
            writing.unlink(missing_ok=True)

    async def _read(self, path: str) -> AsyncIterator[bytes]:
        with errors_by_meaning():
            async for answer in self._box.files.ReadFile(file_pb2.ReadFileRequest(file=self._place(path))):
                yield answer.data

    async def send(self, source: str, target: str) -> int:
        """Returns how many files."""
        await self._box.session(self._session_id, workspace_id=self._workspace_id)
        place = PurePosixPath(target)
        there = await self._stat(target)
        is_directory = there is not None and there.type == file_pb2.FILE_TYPE_DIRECTORY
        if source == _STREAM:
            if is_directory:
                raise InvalidInput(f"{target} is a directory; name the file that standard input is to become")
            await self._write(pieces(sys.stdin.fileno()), str(place), 0)
            return 1
        here = Path(os.path.realpath(source))  # noqa: ASYNC240 - a command line has nothing else to do
        if is_directory:
            place /= here.name
        try:
            if stat.S_ISDIR(os.stat(here).st_mode):
                answer = await self._box.upload(
                    self._session_id,
                    str(place),
                    local_archive.pack(here),
                    workspace_id=self._workspace_id,
                    make_parents=True,
                )
                return answer.file_count
            mode = 0o755 if os.access(here, os.X_OK) else 0
            await self._write(_pieces_of(here), str(place), mode)
        except OSError as error:
            raise InvalidInput(f"{source}: cannot be read on this machine ({error.strerror})") from error
        return 1

    async def _write(self, content: AsyncIterator[bytes], path: str, mode: int) -> None:
        async def frames() -> AsyncIterator[file_pb2.WriteFileRequest]:
            start = file_pb2.WriteFileStart(file=self._place(path), make_parents=True, mode=mode)
            yield file_pb2.WriteFileRequest(start=start)
            async for piece in content:
                for at in range(0, len(piece), FRAME_BYTES):
                    yield file_pb2.WriteFileRequest(data=piece[at : at + FRAME_BYTES])

        with errors_by_meaning():
            await self._box.files.WriteFile(frames())

    async def _stat(self, path: str) -> file_pb2.FileInfo | None:
        """None where there is nothing; links are followed by whoever reads."""
        try:
            with errors_by_meaning():
                answer = await self._box.files.Stat(file_pb2.StatRequest(file=self._place(path)), timeout=CALL_SECONDS)
        except NotFound as error:
            if error.resource is not None and error.resource.type == "session":
                raise
            return None
        return answer.file

    def _place(self, path: str) -> file_pb2.FilePath:
        return file_pb2.FilePath(session_id=self._session_id, workspace_id=self._workspace_id, path=path)


async def _pieces_of(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, FRAME_BYTES):
            yield piece
