"""The published codes with which a run of a harness fails, and how the end of a program becomes one."""

from portway.rpc.redaction import redact_text
from portway.runtime.sdk import BoxEnding, BoxExit, RunFailure

CONFIG = "harness.config"
NO_PLACE = "harness.no_place"
CLI_MISSING = "harness.cli_missing"
TIMEOUT = "harness.timeout"
EMPTY_OUTPUT = "harness.empty_output"
NONZERO_EXIT = "harness.nonzero_exit"
BAD_OUTPUT = "harness.bad_output"
CRASHED = "harness.crashed"
OUT_OF_MEMORY = "harness.out_of_memory"
LOST = "harness.lost"
PROGRAM_ERROR = "harness.program_error"
LOGIN_REQUIRED = "harness.login_required"
INPUT_TOO_LONG = "harness.input_too_long"

# What a shell and `env` end with when a program is not there, or is not one.
_NOT_FOUND = (126, 127)
_SHOWN = 1500
_LOOKED_AT = 4 * _SHOWN
# How programs say that nobody is logged in, or that their key is not taken.
_LOGGED_OUT = (
    "please run /login",
    "not logged in",
    "invalid api key",
    "authentication required",
    "codex login",
    "401 unauthorized",
    "oauth token has expired",
)


def excerpt(text: str) -> str:
    """The end of what a program said, for people: bounded, printable, and without what looks like a secret."""
    shown = (one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text[-_LOOKED_AT:])
    text = redact_text("".join(shown)).strip()
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


def check_exit(program: str, end: BoxExit, errors: str, answer: str = "") -> None:
    """Raises `RunFailure` unless the program ended well. `answer` is what it said so far, where that is known."""
    said = f"; it said: {excerpt(errors)}" if errors.strip() else "; it said nothing about why"
    if end.ending is BoxEnding.COMPLETED and end.code == 0:
        return
    if end.ending is BoxEnding.COMPLETED and end.code in _NOT_FOUND:
        raise missing(program, said)
    if end.ending is BoxEnding.COMPLETED and (errors_of_login(errors) or errors_of_login(answer)):
        raise login_required(program, errors if errors_of_login(errors) else answer)
    if end.ending is BoxEnding.COMPLETED:
        raise RunFailure(NONZERO_EXIT, f"{program} ended with exit code {end.code}{said}")
    if end.ending is BoxEnding.TIMED_OUT:
        raise RunFailure(TIMEOUT, f"{program} took longer than the box lets a command take{said}", retryable=True)
    if end.ending is BoxEnding.OUT_OF_MEMORY:
        raise RunFailure(
            OUT_OF_MEMORY, f"{program} needed more memory than its session has; give the box profile more{said}"
        )
    raise RunFailure(CRASHED, f"{program} was ended by signal {end.signal or 'unknown'}{said}", retryable=True)


def missing(program: str, said: str = "") -> RunFailure:
    return RunFailure(
        CLI_MISSING,
        f"there is no program {program!r} where the run works{said}. Mount it (box_policy.mounts of the agent), use an "
        "image that has it (box_policy.image), or name it by its path in `command` of the agent's configuration",
    )


def errors_of_login(said: str) -> bool:
    """Whether a program says that it lacks a login or a key that is taken."""
    said = said[-_LOOKED_AT:].lower()
    return any(one in said for one in _LOGGED_OUT)


def login_required(program: str, said: str) -> RunFailure:
    return RunFailure(
        LOGIN_REQUIRED,
        f"{program} says that nobody is logged in: {excerpt(said)}. Its models are those of the agent, opened by the "
        "run's token: leave address and key as they are, or set both in `environment` of the agent's configuration",
    )


def program_failed(program: str, said: str) -> RunFailure:
    """What a program says itself of why it failed."""
    if errors_of_login(said):
        return login_required(program, said)
    return RunFailure(PROGRAM_ERROR, f"{program} failed: {excerpt(said)}")
