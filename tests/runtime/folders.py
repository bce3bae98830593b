"""Writes plugin folders for tests."""

from pathlib import Path

MANIFEST = "author: test\nname: {name}\nversion: {version}\nlabel: {name}\n"
COMPONENT = "kind: AgentRunner\nname: default\nlabel: A runner\nclass: {module}:Runner\n"
CODE = """
from collections.abc import AsyncIterator
from portway.runtime.sdk import AgentRunner, HostApi, MessageCompleted, RunContext, RunResult


class Runner(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        yield MessageCompleted.of_text("{says}")
"""


def write_plugin(
    root: Path,
    name: str = "one",
    *,
    version: str = "1.0.0",
    more: str = "",
    component: str = "",
    code: str = "",
    says: str = "hello",
) -> Path:
    """A plugin that works, unless what is given makes it another. `more` follows the manifest."""
    folder = root / name
    (folder / "components").mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    (folder / "manifest.yaml").write_text(MANIFEST.format(name=name, version=version) + more)
    (folder / "components" / "default.yaml").write_text(component or COMPONENT.format(module=module))
    (folder / f"{module}.py").write_text(code or CODE.replace("{says}", says))
    return folder
