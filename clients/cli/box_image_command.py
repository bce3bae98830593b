"""`portway box image`: root file systems that sandbox sessions can start from."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from portway.clients.box import CALL_SECONDS
from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.rpc.errors import InvalidInput
from portway.rpc.status import errors_by_meaning
from portway.v1 import image_pb2 as pb

image = typer.Typer(no_args_is_help=True, help="Root file systems that sandbox sessions can start from.")
Json = Annotated[bool, session.JSON_OPTION]
Name = Annotated[str, typer.Argument(help="Name of the image.")]
Workspace = Annotated[str, typer.Option("--workspace", help="Workspace; without it, your own, or all for an admin.")]

_PIECE = 512 * 1024
_FAILED = 1


@image.command("import")
def import_image(
    file: Annotated[str, typer.Argument(help="A tar or an archive with layers, packed or not; `-`: standard input.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new image, such as debian:12.")],
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """Make an image of a root file system: what debootstrap, `docker export`, `docker save` or an OCI archive gives."""

    async def work(endpoint: Endpoint) -> None:
        descriptor = _open(file)
        try:
            async with session.box(endpoint) as client:
                made = await client.import_image(name, _pieces(descriptor), workspace_id=workspace)
        finally:
            os.close(descriptor)
        if as_json:
            session.print_json(made)
            return
        typer.echo(f"imported {name}: {made.image.entry_count} entries, {_size(made.image.size)}, {made.image.digest}")
        for note in made.notes:
            typer.echo(f"left out: {note}")

    session.run(work)


@image.command()
def pull(
    reference: Annotated[str, typer.Argument(help="Such as debian:12 or registry.example.org/team/tools@sha256:….")],
    workspace: Workspace = "",
    as_json: Json = False,
) -> None:
    """Fetch an image from a registry that the box's operator allows (`box.images.allow`)."""

    async def work(endpoint: Endpoint) -> None:
        last, told = pb.PullImageResponse(), -1
        async with session.box(endpoint) as client:
            with errors_by_meaning():
                request = pb.PullImageRequest(reference=reference, workspace_id=workspace)
                async for last in client.images.PullImage(request):
                    percent = 100 * last.received_bytes // last.total_bytes if last.total_bytes else 0
                    if not as_json and percent // 10 != told:
                        told = percent // 10
                        typer.echo(f"{percent}% of {_size(last.total_bytes)}")
        if as_json:
            session.print_json(last)
            return
        made = last.image
        typer.echo(f"pulled {reference}: {made.entry_count} entries, {_size(made.size)}, {made.source or made.digest}")
        for note in last.notes:
            typer.echo(f"left out: {note}")

    session.run(work)


@image.command("list")
def list_images(workspace: Workspace = "", as_json: Json = False) -> None:
    """The first 200 images."""

    async def work(endpoint: Endpoint) -> None:
        async with session.box(endpoint) as client:
            request = pb.ListImagesRequest(page_size=200, workspace_id=workspace)
            with errors_by_meaning():
                found = list((await client.images.ListImages(request, timeout=CALL_SECONDS)).images)
        if as_json:
            session.print_json(found)
            return
        rows = [
            (
                one.name,
                "all" if one.workspace_id == "*" else one.workspace_id,
                one.architecture or "-",
                _size(one.size),
                str(one.session_count),
                session.when(one.create_time),
                one.digest.removeprefix("sha256:")[:12],
            )
            for one in found
        ]
        session.print_table(("image", "workspace", "for", "size", "sessions", "imported", "digest"), rows)

    session.run(work)


@image.command()
def validate(name: Name, workspace: Workspace = "", as_json: Json = False) -> None:
    """Try in a session whether an agent can work in an image; each stage and check is told as it comes."""

    async def work(endpoint: Endpoint) -> None:
        last = pb.ImageValidation()
        async with session.box(endpoint) as client:
            with errors_by_meaning():
                call = client.images.ValidateImage(pb.ValidateImageRequest(image=name, workspace_id=workspace))
                async for answer in call:
                    if not as_json:
                        _tell(last, answer.validation)
                    last = answer.validation
        if as_json:
            session.print_json(last)
        if last.stage != pb.IMAGE_VALIDATION_STAGE_COMPLETED:
            raise typer.Exit(_FAILED)

    session.run(work)


@image.command()
def remove(name: Name, workspace: Workspace = "") -> None:
    """Remove an image that no session uses."""

    async def work(endpoint: Endpoint) -> None:
        async with session.box(endpoint) as client:
            request = pb.RemoveImageRequest(name=name, workspace_id=workspace)
            with errors_by_meaning():
                await client.images.RemoveImage(request, timeout=CALL_SECONDS)
        typer.echo(f"removed {name}")

    session.run(work)


def _open(file: str) -> int:
    if file == "-":
        return os.dup(sys.stdin.fileno())
    try:
        return os.open(Path(file), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error


async def _pieces(descriptor: int) -> AsyncIterator[bytes]:
    while True:
        try:
            piece = await asyncio.to_thread(os.read, descriptor, _PIECE)
        except OSError as error:
            raise InvalidInput(f"the file cannot be read: {error.strerror}") from error
        if not piece:
            return
        yield piece


def _tell(before: pb.ImageValidation, now: pb.ImageValidation) -> None:
    """What is new in a validation, a line each."""
    for check in now.checks[len(before.checks) :]:
        typer.echo(f"  {'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.message}")
    if now.stage != before.stage:
        typer.echo(session.name_of(pb.ImageValidationStage.DESCRIPTOR, now.stage) + _why(now))


def _why(validation: pb.ImageValidation) -> str:
    return f": {validation.reason}" if validation.reason else ""


def _size(count: int) -> str:
    return f"{count / 1024**2:.1f} MiB" if count < 1024**3 else f"{count / 1024**3:.2f} GiB"
