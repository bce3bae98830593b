"""The installer's command lines. It is `uv`, which comes with Portway; decision 0310 says why.

It installs wheels and nothing else: neither the building of a source distribution nor any other code of a package runs
while an environment is made. It gets no variable of the runtime but how to reach an index.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from portway.runtime.environments.digest import base_python
from portway.runtime.environments.types import EnvironmentsConfig
from portway.runtime.plugins.types import Requirements

_REQUIREMENTS, _CONSTRAINTS = "requirements.txt", "constraints.txt"
# How an index is reached; a proxy's address may hold a password, so nothing but the installer gets it.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_QUIET = ("--no-config", "--no-progress", "--color", "never")


@dataclass(frozen=True, slots=True)
class Step:
    """A command and its environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


class Installer:
    """Makes the commands that fill the folder `target`; `scratch` is for its temporary files."""

    def __init__(self, config: EnvironmentsConfig, own: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._own = os.environ if own is None else own
        self._uv = find_uv_bin()

    def write_files(self, requirements: Requirements, scratch: Path, constraints: str) -> None:
        lines = [" ".join((one.text, *one.hashes)) for one in requirements.packages]
        (scratch / _REQUIREMENTS).write_text("\n".join(lines) + "\n")
        (scratch / _CONSTRAINTS).write_text(constraints)

    def make(self, target: Path, scratch: Path) -> Step:
        """An environment with a Python and nothing in it."""
        arguments = [self._uv, "venv", *_QUIET, "--offline", "--no-project", "--relocatable", "--no-python-downloads"]
        return Step([*arguments, "--python", base_python(), str(target)], self._environment(scratch))

    def installs(self, requirements: Requirements, target: Path, scratch: Path) -> Sequence[Step]:
        """Ways to fill it, one after the other until one works: from folders alone, then with the index."""
        arguments = [self._uv, "pip", "install", *_QUIET, "--no-cache", "--no-build", "--link-mode", "copy"]
        arguments += ["--python", str(target / "bin" / "python"), "-r", str(scratch / _REQUIREMENTS)]
        if all(one.hashes for one in requirements.packages):
            # Hashes name every file that may come in, also those of packages that are only needed by others.
            arguments += ["--require-hashes"]
        else:
            arguments += ["--constraint", str(scratch / _CONSTRAINTS)]
        folders = list(dict.fromkeys([*(one.parent for one in requirements.wheels), *self._config.find_links]))
        for folder in folders:
            arguments += ["--find-links", str(folder)]
        local = Step([*arguments, "--no-index"], self._environment(scratch))
        if self._config.offline:
            return [local]
        index = {"UV_DEFAULT_INDEX": self._config.index} if self._config.index else {}
        asking = Step(arguments, self._environment(scratch) | self._network() | index)
        return [local, asking] if folders else [asking]

    def _network(self) -> dict[str, str]:
        names = [*_NETWORK, *(name.lower() for name in _NETWORK[:4])]
        return {name: self._own[name] for name in names if name in self._own}

    def _environment(self, scratch: Path) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "LANG": "C.UTF-8",
            # Two tries are enough for an index that is there; whoever waits wants to know about one that is not.
            "UV_HTTP_RETRIES": "1",
            "UV_HTTP_TIMEOUT": "20",
        }
