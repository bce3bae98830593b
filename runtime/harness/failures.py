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
INPUT_TOO_LONG = "harness.input_too_long"

# What a shell and `env` end with when a program is not there, or is not one.
_NOT_FOUND = (126, 127)
_SHOWN = 1500


def excerpt(text: str) -> str:
    """The end of what a program said, for people: bounded, and without what looks like a secret."""
    text = redact_text(text).strip()
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


def check_exit(program: str, end: BoxExit, errors: str) -> None:
    """Raises `RunFailure` unless the program ended well."""
    said = f"; it said: {excerpt(errors)}" if errors.strip() else "; it said nothing about why"
    if end.ending is BoxEnding.COMPLETED and end.code == 0:
        return
    if end.ending is BoxEnding.COMPLETED and end.code in _NOT_FOUND:
        raise missing(program, said)
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
