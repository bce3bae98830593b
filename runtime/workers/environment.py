"""What a plugin's process finds in its environment: a fixed few, and what is both asked for and granted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.environments.types import Environment
from portway.runtime.plugins.types import PluginDefinition, PythonCode, kind_of
from portway.runtime.sdk.worker.settings import COMPONENTS, COOKIE_FILE, PLUGIN, SOCKET

_USUAL = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class WorkerFolder:
    """The private folder of one worker: its socket, its cookie, and a place for temporary files."""

    path: Path

    @property
    def socket(self) -> Path:
        return self.path / "socket"

    @property
    def cookie_file(self) -> Path:
        return self.path / "cookie"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp"

    @property
    def tag(self) -> str:
        """Stands in the environment of everything that the worker starts."""
        return f"{self.path}/"


def environment_of(
    plugin: PluginDefinition,
    folder: WorkerFolder,
    own: Mapping[str, str],
    granted: Sequence[str],
    packages: Environment | None = None,
) -> dict[str, str]:
    """`own` is the runtime's environment; only names that are in `granted` and asked for are taken from it. Programs of
    the plugin's own `packages` are found first."""
    environment = {"PATH": _DEFAULT_PATH} | {name: own[name] for name in _USUAL if name in own}
    environment |= {name: own[name] for name in plugin.environment if name in granted and name in own}
    if packages is not None:
        environment |= {"PATH": f"{packages.programs}:{environment['PATH']}", "VIRTUAL_ENV": str(packages.folder)}
    environment |= {
        "HOME": str(folder.temporary),
        "TMPDIR": str(folder.temporary),
        PLUGIN: plugin.id,
        SOCKET: str(folder.socket),
        COOKIE_FILE: str(folder.cookie_file),
    }
    if isinstance(plugin.execution, PythonCode):
        every = (*plugin.runners, *plugin.tools, *plugin.others)
        components = [{"kind": kind_of(one), "name": one.name, "code": one.code} for one in every]
        environment[COMPONENTS] = json.dumps(components)
    return environment


def missing_grants(plugin: PluginDefinition, own: Mapping[str, str], granted: Sequence[str]) -> Sequence[str]:
    """The names that the plugin asks for and does not get."""
    return [name for name in plugin.environment if name not in granted or name not in own]
