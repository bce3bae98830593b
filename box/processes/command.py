"""From a command as asked for to one that a backend can start."""

from portway.box.backends.types import CommandSpec
from portway.box.processes.types import CommandRequest
from portway.box.sessions.environment import check_environment, session_environment
from portway.box.sessions.mounts import is_plain_absolute
from portway.box.sessions.types import SessionSpec
from portway.rpc.errors import InvalidInput

# The kernel takes at most 128 KiB for one argument, with the byte that ends it.
MAX_ARGUMENT_BYTES = 128 * 1024 - 1
MAX_ARGV_BYTES = 128 * 1024
MAX_ENV_BYTES = 256 * 1024


def to_spec(command: CommandRequest, session: SessionSpec, *, wants_input: bool) -> CommandSpec:
    """Raises `InvalidInput` for what cannot be executed as it stands."""
    argv = command.argv or ("/bin/sh", "-c", command.shell)
    _check_argv(argv, "command.shell" if command.shell else "command.argv")
    terminal = {"TERM": "xterm-256color"} if command.terminal else {}
    env = terminal | session_environment(session) | dict(command.env)
    check_environment(command.env, "command.env")
    if sum(len(name.encode()) + len(value.encode()) + 2 for name, value in env.items()) > MAX_ENV_BYTES:
        raise InvalidInput.field("command.env", f"has more than {MAX_ENV_BYTES} bytes together with the session's")
    directory = command.working_directory or session.working_directory
    # Whether it is there is for the sandbox to say; what leads out of it does not exist inside.
    if not is_plain_absolute(directory):
        raise InvalidInput.field("command.working_directory", "must be an absolute path without `.`, `..` or `//`")
    return CommandSpec(tuple(argv), directory, tuple(env.items()), command.terminal, wants_input)


def _check_argv(argv: tuple[str, ...], field: str) -> None:
    sizes = [len(argument.encode()) for argument in argv]
    if not argv[0]:
        raise InvalidInput.field(field, "the program has no name")
    if any("\0" in argument for argument in argv):
        raise InvalidInput.field(field, "holds a zero byte, which no argument can")
    if max(sizes) > MAX_ARGUMENT_BYTES or sum(sizes) + len(sizes) > MAX_ARGV_BYTES + 64:
        raise InvalidInput.field(field, f"has more than the {MAX_ARGV_BYTES} bytes that a command line may have")


def timeout_of(command: CommandRequest, session: SessionSpec) -> float:
    """Seconds. Raises `InvalidInput` for more than the session allows."""
    if command.longest_time:
        if command.timeout is not None:
            raise InvalidInput.field("command.longest_time", "stands instead of a timeout; leave one of them out")
        return session.command_timeout
    if command.timeout is None:
        return min(session.default_timeout, session.command_timeout)
    if not 0 < command.timeout <= session.command_timeout:
        most = f"{session.command_timeout:g} s"
        raise InvalidInput.field("command.timeout", f"must be above 0 and at most {most}, the limit of this session")
    return command.timeout
