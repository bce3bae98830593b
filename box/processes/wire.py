"""Commands and processes between the contract and this folder's types."""

from portway.box.backends.types import Exit, ExitStatus
from portway.box.isolation.terminal import TerminalSize
from portway.box.processes.types import CommandRequest, CommandResult, Process, ProcessState, RestartPolicy
from portway.box.sessions.wire import duration, seconds_of, timestamp
from portway.rpc.errors import InvalidInput
from portway.v1 import process_pb2 as pb

# bubblewrap's init is process 1 of each command's own numbering, the command the first one that it starts.
COMMAND_PID = 2
_STATUS_TO = {
    ExitStatus.COMPLETED: pb.EXIT_STATUS_COMPLETED,
    ExitStatus.TIMED_OUT: pb.EXIT_STATUS_TIMED_OUT,
    ExitStatus.KILLED: pb.EXIT_STATUS_KILLED,
    ExitStatus.OUT_OF_MEMORY: pb.EXIT_STATUS_OUT_OF_MEMORY,
}
_STATE_TO = {
    ProcessState.RUNNING: pb.PROCESS_STATE_RUNNING,
    ProcessState.RESTARTING: pb.PROCESS_STATE_RESTARTING,
    ProcessState.STOPPING: pb.PROCESS_STATE_STOPPING,
    ProcessState.EXITED: pb.PROCESS_STATE_EXITED,
    ProcessState.LOST: pb.PROCESS_STATE_LOST,
}
POLICY_OF = {
    pb.RESTART_POLICY_UNSPECIFIED: RestartPolicy.NEVER,
    pb.RESTART_POLICY_NEVER: RestartPolicy.NEVER,
    pb.RESTART_POLICY_ON_FAILURE: RestartPolicy.ON_FAILURE,
    pb.RESTART_POLICY_ALWAYS: RestartPolicy.ALWAYS,
}


def command_from(command: pb.Command) -> CommandRequest:
    if command.WhichOneof("kind") is None or (command.HasField("shell") and not command.shell):
        raise InvalidInput.field("command", "says nothing to run; set `argv` or `shell`")
    return CommandRequest(
        argv=tuple(command.argv.args),
        shell=command.shell,
        working_directory=command.working_directory,
        env=dict(command.env),
        timeout=seconds_of(command.timeout, "command.timeout") if command.HasField("timeout") else None,
        terminal=size_from(command.terminal) if command.HasField("terminal") else None,
        longest_time=command.longest_time,
    )


def size_from(size: pb.TerminalSize) -> TerminalSize:
    return TerminalSize(size.rows, size.columns)


def command_to(command: CommandRequest) -> pb.Command:
    made = pb.Command(working_directory=command.working_directory, env=command.env, longest_time=command.longest_time)
    if command.shell:
        made.shell = command.shell
    else:
        made.argv.args.extend(command.argv)
    if command.timeout is not None:
        made.timeout.CopyFrom(duration(command.timeout))
    if command.terminal is not None:
        made.terminal.CopyFrom(pb.TerminalSize(rows=command.terminal.rows, columns=command.terminal.columns))
    return made


def exit_to(ended: Exit) -> pb.Exit:
    return pb.Exit(
        status=_STATUS_TO[ended.status],
        exit_code=ended.exit_code,
        signal=ended.signal,
        duration=duration(ended.duration),
        cpu_time=duration(ended.cpu_seconds),
        peak_memory_bytes=ended.peak_memory,
    )


def exit_of(result: CommandResult) -> pb.Exit:
    told = exit_to(result.exit)
    told.output_file_error = result.file_error
    return told


def result_to(result: CommandResult) -> pb.ExecOnceResponse:
    return pb.ExecOnceResponse(
        stdout=result.output.stdout,
        stderr=result.output.stderr,
        stdout_truncated_bytes=result.output.stdout_left_out,
        stderr_truncated_bytes=result.output.stderr_left_out,
        exit=exit_of(result),
        replayed=result.replayed,
    )


def process_to(process: Process) -> pb.Process:
    return pb.Process(
        process_id=process.process_id,
        session_id=process.session.session_id,
        command=command_to(process.command),
        state=_STATE_TO[process.state],
        pid=COMMAND_PID if process.state in (ProcessState.RUNNING, ProcessState.STOPPING) else 0,
        start_time=timestamp(process.start_time),
        exit=exit_to(process.exit) if process.exit is not None else None,
        restart_count=process.restart_count,
        stdout_bytes=process.stdout_bytes,
        stderr_bytes=process.stderr_bytes,
        attached_count=process.attached_count,
    )
