"""A folder to begin with: one of the examples under a name of its own, with all that it needs to be built."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor

from portway.runtime.kit.folder import Unusable
from portway.v1 import worker_pb2

_PORTWAY = Path(__file__).parents[2]
_EXAMPLES = _PORTWAY / "clients" / "examples"
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?")
# What building leaves in an example.
_MADE = shutil.ignore_patterns("__pycache__", "build", "node_modules", "contract", "worker")


@dataclass(frozen=True, slots=True)
class Template:
    """An example to begin with. `plugin` is its name there; `compiled`: it wants the contract beside it."""

    folder: str
    plugin: str
    compiled: bool
    next_step: str


TEMPLATES: Mapping[str, Template] = {
    "python": Template("echo_plugin", "echo", False, 'portway plugin run {folder} "hello there"'),
    "tool": Template("tool_plugin", "dice", False, "portway plugin test {folder}"),
    "knowledge": Template("knowledge_plugin", "keyword", False, "portway plugin test {folder}"),
    "parser": Template("parser_plugin", "markup", False, "portway plugin test {folder}"),
    "listener": Template("listener_plugin", "tally", False, "portway plugin test {folder}"),
    "go": Template("go", "echo-go", True, "make -C {folder}"),
    "node": Template("node", "echo-node", True, "make -C {folder}"),
}
NAMES = tuple(TEMPLATES)
# What a Python plugin begins with, by the kind of its component.
KINDS = {"runner": "python", "tool": "tool", "knowledge": "knowledge", "parser": "parser", "listener": "listener"}


def make(folder: Path, template: str, author: str) -> None:
    """Copies the example and gives it the name of the folder. Raises `Unusable` for a folder that is there already."""
    chosen, name = TEMPLATES[template], folder.resolve().name
    for what, text in (("folder's name", name), ("author", author)):
        if not _NAME.fullmatch(text):
            raise Unusable(f"the {what} {text!r} is no name: lower-case letters, digits, - and _, at most 64")
    if folder.exists():
        raise Unusable(f"{folder} is there already; choose another name")
    shutil.copytree(_EXAMPLES / chosen.folder, folder, ignore=_MADE)
    _rename(folder, chosen, author, name)
    if chosen.compiled:
        _copy_contract(folder / "protos")
    print(f"made {folder}: the plugin {author}/{name}; begin with its README.md")
    print(f"next: {chosen.next_step.format(folder=folder)}")


def _rename(folder: Path, template: Template, author: str, name: str) -> None:
    manifest = folder / "manifest.yaml"
    text = manifest.read_text("utf-8").replace("author: examples\n", f"author: {author}\n")
    manifest.write_text(text.replace(f"\nname: {template.plugin}\n", f"\nname: {name}\n"), "utf-8")
    page = folder / "README.md"
    told = page.read_text("utf-8").replace(f"clients/examples/{template.folder}", folder.name)
    told = told.replace(f"examples/{template.plugin}", f"{author}/{name}")
    page.write_text(told, "utf-8")


def _copy_contract(protos: Path) -> None:
    """The worker contract and what it imports; compilers bring Google's own."""
    for file in sorted(_closure(worker_pb2.DESCRIPTOR, set())):
        if not file.startswith("google/"):
            target = protos / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_PORTWAY / "protos" / file, target)


def _closure(file: FileDescriptor, found: set[str]) -> set[str]:
    found.add(file.name)
    for needed in file.dependencies:
        if needed.name not in found:
            _closure(needed, found)
    return found
