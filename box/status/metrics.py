"""What the box tells Prometheus."""

from collections.abc import Iterable

from portway.box.processes.run import CommandRunner
from portway.box.sessions.directory import SessionDirectory
from portway.box.status.health import BoxHealth
from portway.rpc.metrics.families import Family, counted, counter, gauge


class BoxNumbers:
    """Asked when somebody reads them."""

    def __init__(self, sessions: SessionDirectory, runner: CommandRunner, health: BoxHealth) -> None:
        self._sessions = sessions
        self._runner = runner
        self._health = health

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        sessions, runner = self._sessions, self._runner
        return [
            gauge("portway_box_available", "1 where commands can run.", float(self._health.known.available)),
            gauge("portway_box_sessions", "Sessions that exist.", sessions.count),
            counter("portway_box_sessions_reaped", "Sessions removed because nobody used them.", sessions.reaped_count),
            gauge("portway_box_running", "Commands and processes that run.", sessions.running_count),
            counter("portway_box_commands", "Commands started.", runner.command_count),
            counted("portway_box_kills", "Commands killed, by why.", ("reason",), runner.kills),
        ]
