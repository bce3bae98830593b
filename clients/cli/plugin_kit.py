"""`portway plugin new`, `run`, `test`, `pack`, `keygen` and `sign`: for authors; part of the runtime's package."""

import os
import sys

import typer

KIT = (sys.executable, "-m", "portway.runtime.kit")
_COMMANDS = {
    "new": "Make a folder to begin with: a runner or tool in Python, a runner in Go or TypeScript.",
    "run": "Run a plugin once with a message, in a runtime of its own; no server is needed.",
    "test": "Run the conformance suite on a plugin in any language; each behaviour with what came of it.",
    "pack": "Make a zip of a plugin; the same files make the same bytes. --sign KEY signs it.",
    "keygen": "Make a key that signs plugins, and show what operators trust it with.",
    "sign": "Sign a packed plugin; the signature lies beside it.",
}


def register(plugin: typer.Typer) -> None:
    passing_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    for name, text in _COMMANDS.items():
        plugin.command(name, help=text, add_help_option=False, context_settings=passing_on)(_kit)


def _kit(context: typer.Context) -> None:
    os.execv(sys.executable, [*KIT, str(context.info_name), *context.args])
