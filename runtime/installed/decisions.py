"""What operators decided, and what was refused to them: counted, and a line in the log for each."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from portway.rpc.errors import PortwayError
from portway.rpc.identity import Caller
from portway.rpc.metrics.families import Counts


class Decisions:
    """`counts` is by action and outcome."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._log = structlog.get_logger("portway.runtime.plugins")

    @contextmanager
    def on(self, action: str, by: Caller, plugin_id: str = "") -> Iterator[dict[str, object]]:
        """Around a decision. What is put into the mapping goes into the log with it."""
        said: dict[str, object] = {"plugin": plugin_id} if plugin_id else {}
        log = self._log.bind(action=action, caller=by.token_id, subject=by.subject)
        try:
            yield said
        except PortwayError as error:
            self.counts.add(action, "refused")
            log.warning("plugin decision refused", refused_for=str(error.reason), problem=error.message, **said)
            raise
        self.counts.add(action, "done")
        log.info("plugin decision", **said)
