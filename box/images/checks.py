"""What is tried inside a session of an image, to tell whether an agent can work in it."""

import asyncio
import platform
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from portway.box.backends.interface import NothingRan, RunningCommand, Sandbox, Stream
from portway.box.backends.types import CommandSpec, TerminalSize
from portway.box.images.types import Check, Image

CHECK_SECONDS = 15.0
ENV = (("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"), ("HOME", "/workspace"), ("LANG", "C.UTF-8"))
_MOST_OUTPUT = 16 * 1024
_NEEDED = "cat ls cp mv rm mkdir grep sed head"
_USEFUL = ("python3", "node", "git", "bash")

_FIELD = 'field() { while read -r key value rest; do [ "$key" = "$1:" ] && echo "$value"; done < /proc/self/status; }\n'
_REFUSED = '(: > "$1") 2>/dev/null && echo "$1 could be written"\n'
_ISOLATION = (
    _FIELD
    + """
equal() { [ "$2" = "$3" ] || echo "$1 is $2"; }
equal "effective capabilities" "$(field CapEff)" 0000000000000000
equal "bounding capabilities" "$(field CapBnd)" 0000000000000000
equal "no new privileges" "$(field NoNewPrivs)" 1
equal "system call filter" "$(field Seccomp)" 2
first=; { read -r first < /proc/1/environ; } 2>/dev/null; equal "environment of the first process" "$first" ""
(: > /proc/sys/kernel/panic) 2>/dev/null && echo "/proc/sys could be written"
true
"""
)


@dataclass(frozen=True, slots=True)
class _Try:
    """A script, what its output must be, and what to say otherwise. `judge` gives what is wrong, '' for nothing."""

    name: str
    script: str
    judge: Callable[[str], str]
    well: str
    advice: str
    terminal: bool = False


def _is(wanted: str) -> Callable[[str], str]:
    return lambda said: "" if said == wanted else f"{said!r} came instead of {wanted!r}"


def _no_root(said: str) -> str:
    return "" if said.isdigit() and int(said) else f"commands run as user {said!r}"


def _nothing(said: str) -> str:
    return said.replace("\n", ", ")


_TRIES = (
    _Try("user", f"{_FIELD}field Uid", _no_root, "commands do not run as root", "this is the box's fault: report it"),
    _Try(
        "workspace",
        "echo kept > /workspace/.check && read -r said < /workspace/.check && echo $said && : > /workspace/.check",
        _is("kept"),
        "/workspace can be written",
        "look at the disk of the box",
    ),
    _Try(
        "tmp",
        "echo kept > /tmp/.check && read -r said < /tmp/.check && echo $said",
        _is("kept"),
        "/tmp can be written",
        "look at the memory of the box",
    ),
    _Try(
        "read-only root",
        "for each in /check /etc/check /usr/check; do set -- $each; " + _REFUSED.strip() + "; done; true",
        _nothing,
        "nothing else can be written",
        "this is the box's fault: report it",
    ),
    _Try("isolation", _ISOLATION, _nothing, "nothing got out", "this is the box's fault: report it"),
    _Try(
        "network",
        "while read -r name rest; do case $name in *:*) printf '%s ' ${name%%:*};; esac; done < /proc/net/dev",
        _is("lo"),
        "off, as a session without a network has it",
        "this is the box's fault: report it",
    ),
    _Try(
        "utf-8",
        "printf '%s' 'ä€語'; command -v locale >/dev/null 2>&1 && locale charmap",
        lambda said: "" if said in ("ä€語", "ä€語UTF-8") else f"{said!r} came back",
        "text comes through as UTF-8",
        "add the locale C.UTF-8 to the image",
    ),
    _Try(
        "programs",
        f"for each in {_NEEDED}; do command -v $each >/dev/null 2>&1 || echo $each; done; true",
        _nothing,
        "the usual programs for files are there",
        "add coreutils, grep and sed, or busybox, to the image",
    ),
    _Try(
        "terminal",
        "if test -t 0 && (: < /dev/tty) 2>/dev/null; then echo terminal; else echo none; fi",
        _is("terminal"),
        "interactive programs get one",
        "add a shell that opens /dev/tty, such as dash, bash or busybox",
        terminal=True,
    ),
)


def check_architecture(image: Image) -> Check:
    """Whether its programs can run on this machine at all."""
    own = platform.machine()
    fits = image.architecture in ("", own)
    message = f"made for {image.architecture or 'no machine: it holds no programs'}"
    if not fits:
        message += f", and this machine is {own}: import one that is made for {own}"
    return Check("architecture", fits, message)


async def run_checks(sandbox: Sandbox) -> AsyncIterator[Check]:
    """One after the other. Without a shell that works, nothing else is tried: each of them needs it."""
    said = await _said(sandbox, ("/bin/sh", "-c", 'echo "$((40 + 2)) $1"', "sh", "well"))
    if said != "42 well":
        yield Check(
            "shell",
            False,
            f"/bin/sh does not work ({said or 'it said nothing'!r}); add a shell such as dash or busybox",
        )
        return
    yield Check("shell", True, "/bin/sh works")
    for one in _TRIES:
        terminal = TerminalSize(24, 80) if one.terminal else None
        wrong = one.judge(await _said(sandbox, ("/bin/sh", "-c", one.script), terminal))
        yield Check(one.name, not wrong, one.well if not wrong else f"{wrong}; {one.advice}")
    for program in _USEFUL:
        said = await _said(sandbox, ("/bin/sh", "-c", f"command -v {program}"))
        found = f"at {said}" if said.startswith("/") else "not there: what needs it does not work (no fault)"
        yield Check(program, True, found)


async def _said(sandbox: Sandbox, argv: tuple[str, ...], terminal: TerminalSize | None = None) -> str:
    """The beginning of what a command says, without space around; what went wrong where it says nothing."""
    try:
        running = await sandbox.start(CommandSpec(argv, env=ENV, terminal=terminal, wants_input=terminal is not None))
    except NothingRan as error:
        return error.message
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            out, errors = await asyncio.gather(_all(running, Stream.STDOUT), _all(running, Stream.STDERR))
            await running.wait()
    except NothingRan as error:
        return error.message
    except TimeoutError:
        return f"no end within {CHECK_SECONDS:.0f} s"
    finally:
        await running.close()
    return (out or errors).decode(errors="replace").replace("\r", "").strip()


async def _all(running: RunningCommand, stream: Stream) -> bytes:
    """To its end, so that nothing waits; only the beginning is kept."""
    collected = b""
    while data := await running.read(stream, _MOST_OUTPUT):
        collected += data[: _MOST_OUTPUT - len(collected)]
    return collected
