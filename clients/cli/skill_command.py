"""`portway skill`: list, show, install, remove, scan."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.status import errors_by_meaning
from portway.v1 import skill_pb2 as pb

_PIECE = 512 * 1024
Frame = TypeVar("Frame", pb.InstallSkillZipRequest, pb.PreviewSkillZipRequest)

skill = typer.Typer(no_args_is_help=True, help="Skills: folders of instructions and files that agents may use.")
Json = Annotated[bool, session.JSON_OPTION]
Name = Annotated[str, typer.Argument(help="Name of the skill.")]
Zip = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A zip with skills in it.")]


def register(app: typer.Typer) -> None:
    app.add_typer(skill, name="skill")


@skill.command("list")
def list_skills(as_json: Json = False) -> None:
    """The first 200 skills."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                page = await host.skills.ListSkills(pb.ListSkillsRequest(page_size=200), timeout=CALL_SECONDS)
        if as_json:
            session.print_json(list(page.skills))
            return
        _print(page.skills)

    session.run(work)


@skill.command()
def show(name: Name) -> None:
    """A skill and its first 200 files, as JSON."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found = await host.skills.GetSkill(pb.GetSkillRequest(name=name), timeout=CALL_SECONDS)
                files = await host.skills.ListSkillFiles(
                    pb.ListSkillFilesRequest(name=name, page_size=200), timeout=CALL_SECONDS
                )
        session.print_json([found.skill, *files.files])

    session.run(work)


@skill.command()
def install(
    path: Zip,
    folder: Annotated[str, typer.Option(help="Folder inside the zip; without it, every skill in it.")] = "",
    suffix: Annotated[str, typer.Option(help="Appended to names that are taken.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be installed.")] = False,
) -> None:
    """Install the skills of a zip, all or none."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                if dry_run:
                    first = pb.PreviewSkillZipRequest(source_folder=folder, target_suffix=suffix)
                    shown = await host.skills.PreviewSkillZip(_frames(path, first), timeout=CALL_SECONDS)
                    _print(shown.skills)
                    for name in shown.conflicts:
                        typer.echo(f"the name {name} is taken")
                    return
                start = pb.InstallSkillZipRequest(source_folder=folder, target_suffix=suffix)
                made = await host.skills.InstallSkillZip(_frames(path, start), timeout=CALL_SECONDS)
        _print(made.skills)

    session.run(work)


@skill.command()
def remove(name: Name) -> None:
    """Remove a skill with its files."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                await host.skills.DeleteSkill(pb.DeleteSkillRequest(name=name), timeout=CALL_SECONDS)
        typer.echo(f"removed {name}")

    session.run(work)


@skill.command()
def scan() -> None:
    """Look at the host's own folder of skills again."""

    async def work(endpoint: Endpoint) -> None:
        async with session.host(endpoint) as host:
            with errors_by_meaning():
                found = await host.skills.ScanSkills(pb.ScanSkillsRequest(), timeout=CALL_SECONDS)
        _print(found.skills)
        for problem in found.problems:
            typer.echo(f"problem: {problem}", err=True)

    session.run(work)


def _frames(path: Path, first: Frame) -> Iterator[Frame]:
    yield first
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield type(first)(data=piece)


def _print(skills: Iterable[pb.Skill]) -> None:
    rows = [(one.name, one.version or "-", one.source, str(one.revision or "-"), one.description) for one in skills]
    session.print_table(("skill", "version", "source", "revision", "what it is for"), rows)
