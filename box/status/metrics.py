"""What the box tells Prometheus."""

from collections.abc import Iterable

from portway.box.processes.run import CommandRunner
from portway.box.sessions.directory import SessionDirectory
from portway.box.status.errors import ErrorLog
from portway.box.status.health import BoxHealth
from portway.rpc.metrics.families import Family, counted, counter, gauge, gauges, one_histogram


class BoxNumbers:
    """Asked when somebody reads them."""

    def __init__(self, sessions: SessionDirectory, runner: CommandRunner, health: BoxHealth, errors: ErrorLog) -> None:
        self._errors = errors
        self._sessions = sessions
        self._runner = runner
        self._health = health

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        sessions, numbers = self._sessions, self._runner.numbers
        return [
            gauge("portway_box_available", "1 where commands can run.", float(self._health.known.available)),
            gauge("portway_box_sessions", "Sessions that exist.", sessions.count),
            counter("portway_box_sessions_reaped", "Sessions removed because nobody used them.", sessions.reaped_count),
            gauge("portway_box_running", "Commands and processes that run.", sessions.running_count),
            gauges("portway_box_sessions_by_state", "Sessions, by state.", "state", sessions.counts_by_state),
            counter("portway_box_commands", "Commands started.", numbers.started),
            counted("portway_box_commands_ended", "Commands ended, by how.", ("status",), numbers.ended),
            one_histogram("portway_box_command_seconds", "From start to end of commands.", numbers.seconds),
            counter("portway_box_output_bytes", "Output of commands.", numbers.output_bytes),
            counted("portway_box_kills", "Commands killed, by why.", ("reason",), numbers.kills),
            counted("portway_box_errors", "Errors as in ListErrors, by code.", ("code",), self._errors.counts),
            gauge("portway_box_swept", "Leftovers of an earlier life, removed at the start.", self._health.swept),
        ]
