"""What the code under test logs, as it would be written."""

import io
import json
from typing import Any

from portway.rpc.telemetry import configure_logging


class Logs:
    def __init__(self) -> None:
        self._stream = io.StringIO()
        self._flush = configure_logging("test", stream=self._stream)

    def text(self) -> str:
        self._flush()
        return self._stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().split("\n") if line]
