"""What the worker of a plugin needs of Portway itself, shown in an environment of the plugin's own by links.

Only these packages are shown, and the plugin's own come before them: nothing else of the runtime's installation can be
imported, so a plugin that works here does not rest on what happens to be installed.
"""

import importlib.util
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import portway.runtime.sdk

# What the installer has to agree with where a plugin's packages need these too: one process has one of each.
_SHARED = ("grpcio", "protobuf", "typing_extensions")
# `google` belongs to many packages; these are its parts that the contract's generated code needs.
_GOOGLE = ("protobuf", "_upb", "rpc", "api", "type", "logging", "longrunning")
_LINKS = "sdk"
_PATH_FILE = "portway_sdk.pth"


def constraints() -> str:
    """Versions that nothing in the environment may differ from, as lines for the installer."""
    return "".join(f"{name}=={version(name)}\n" for name in _SHARED)


def sources() -> Mapping[str, Path]:
    """What is shown, and where it is: `google/protobuf` to its folder, for example."""
    found = {"portway": Path(portway.runtime.sdk.__path__[0]).parents[1]}
    for name in ("grpc", "typing_extensions"):
        origin = _origin(name)
        found[origin.name] = origin
    google = _origin("google.protobuf").parent
    found |= {f"google/{part.name}": part for part in google.iterdir() if part.name in _GOOGLE}
    return found


def _origin(module: str) -> Path:
    """The folder of a package, or the file of a module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} is a dependency of this project"
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def link_into(environment: Path) -> None:
    """Shows them in the environment, after its own packages."""
    links = environment / _LINKS
    for name, source in sources().items():
        link = links / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Lines of such a file are read relative to the folder that it lies in, so that the environment can be moved.
    (packages / _PATH_FILE).write_text(f"{os.path.relpath(links, packages)}\n")
