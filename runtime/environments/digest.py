"""Names an environment by everything that it is made from, so that plugins with the same needs can share one."""

import hashlib
import json
import platform
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from portway.runtime.environments import sdk
from portway.runtime.plugins.types import Requirements

# Grows when environments are made in another way, so that earlier ones are not used any more.
_RECIPE = 1


def digest_of(requirements: Requirements) -> str:
    """Reads the wheels, so it blocks. Raises `OSError`.

    The contents of a plugin's wheels count, not their names: a plugin with a forged wheel gets an environment of its
    own and does not slip it to others.
    """
    recipe = {
        "recipe": _RECIPE,
        "packages": [[one.text, *one.hashes] for one in requirements.packages],
        "wheels": _wheels(requirements.wheels),
        "python": [sys.implementation.cache_tag, platform.python_version(), base_python()],
        "platform": [sysconfig.get_platform(), *platform.libc_ver()],
        "sdk": [sdk.constraints(), sorted((name, str(source)) for name, source in sdk.sources().items())],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def base_python() -> str:
    """The Python that environments are made with: the runtime's, without the environment that it is in itself."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def _wheels(wheels: Sequence[Path]) -> Sequence[Sequence[str]]:
    found = []
    for wheel in wheels:
        with wheel.open("rb") as file:
            found.append([wheel.name, hashlib.file_digest(file, "sha256").hexdigest()])
    return sorted(found)
