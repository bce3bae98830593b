"""What is counted of commands."""

from portway.box.backends.types import Exit
from portway.rpc.metrics.families import RUN_SECONDS, Counts, Histogram


class CommandNumbers:
    """Since the start of the box."""

    def __init__(self) -> None:
        self.started = 0
        self.output_bytes = 0
        self.ended = Counts()
        self.kills = Counts()
        self.seconds = Histogram(RUN_SECONDS)

    def end(self, ended: Exit) -> None:
        self.ended.add(ended.status.value)
        self.seconds.add(ended.duration)
