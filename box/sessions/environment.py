"""What commands find in their environment."""

from collections.abc import Mapping

from portway.box.backends.types import TEMPORARY, WORKSPACE
from portway.box.sessions.types import SessionSpec
from portway.rpc.errors import InvalidInput

_BASE: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": WORKSPACE,
    "USER": "user",
    "LOGNAME": "user",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "TMPDIR": TEMPORARY,
}


def session_environment(spec: SessionSpec) -> dict[str, str]:
    """What every command of a session gets."""
    return {**_BASE, **spec.env}


def check_environment(env: Mapping[str, str], field: str) -> None:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidInput.field(field, f"{name!r} is not a name and value that an environment can hold")
