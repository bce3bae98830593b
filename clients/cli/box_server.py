"""`portway box` with server options starts the box; with a command it is a client. Imports nothing that is slow."""

import os
import sys
from collections.abc import Sequence


def starts_server(arguments: Sequence[str]) -> bool:
    """`portway box` alone or with options other than --help is the server."""
    if list(arguments[:1]) != ["box"]:
        return False
    return len(arguments) == 1 or (arguments[1].startswith("--") and arguments[1] != "--help")


def start_server(arguments: Sequence[str]) -> None:
    """Become the server. Does not return."""
    os.execv(sys.executable, [sys.executable, "-m", "portway.box", *arguments[1:]])
