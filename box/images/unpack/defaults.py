"""What the configuration of an image gives to the commands of its sessions: variables, bounded and plain ones only."""

import re
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST, _MOST_BYTES = 200, 32 * 1024
# Who the session's user is and where its files lie is the session's to say; the rest a shell keeps for itself.
_NOT_TAKEN = frozenset(
    """HOME USER LOGNAME SHELL TMPDIR _ ENV BASH_ENV BASHOPTS SHELLOPTS CDPATH IFS PWD OLDPWD PPID UID EUID GROUPS
    LINENO OPTARG OPTERR OPTIND PS1 PS2 PS3 PS4 RANDOM SECONDS SHLVL FUNCNAME HISTCMD MAIL MAILPATH""".split()
)


def environment_of(config: Any) -> tuple[list[tuple[str, str]], int]:
    """The variables of a configuration, as OCI and Docker write it, and how many of them are not taken."""
    inner = config.get("config") if isinstance(config, dict) else None
    said = (inner.get("Env") if isinstance(inner, dict) else None) or []
    if not isinstance(said, list):
        return [], 1
    found: dict[str, str] = {}
    left, size = 0, 0
    for one in said:
        name, sign, value = one.partition("=") if isinstance(one, str) else ("", "", "")
        size += len(name.encode(errors="replace")) + len(value.encode(errors="replace"))
        sound = sign and _NAME.fullmatch(name) and name not in _NOT_TAKEN and _is_text(value)
        if not sound or len(found) >= _MOST or size > _MOST_BYTES:
            left += name not in _NOT_TAKEN
            continue
        found[name] = value
    return list(found.items()), left


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
