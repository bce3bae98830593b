"""Prints a run while it happens."""

import sys
from typing import assert_never

from google.protobuf.json_format import MessageToDict

from portway.clients.run_view import (
    Change,
    MessageDone,
    NoticeShown,
    ReasoningAdded,
    RunEnded,
    TextAdded,
    TextDropped,
    ToolDone,
    ToolStarted,
)

_RESULT_LINES = 20


class RunPrinter:
    """Writes text as it comes and tool calls on lines of their own. What deltas have shown is not shown again."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._mid_line = False
        self.failed = False

    def show(self, change: Change) -> None:
        match change:
            case TextAdded(message_key=key, text=text):
                self._shown[key] = self._shown.get(key, "") + text
                self._write(text)
            case ReasoningAdded():
                pass
            case TextDropped(attempt=attempt, reason=reason):
                self._line(f"[attempt {attempt} begins: {reason}]")
                self._shown.clear()
            case MessageDone(message_key=key, text=text):
                self._message(key, text)
            case ToolStarted(call=call):
                arguments = MessageToDict(call.arguments)
                self._line(f"[{call.tool}] {arguments.get('command', arguments)}")
            case ToolDone(call=call):
                self._result(call.error.message if call.HasField("error") else call.result_text)
            case NoticeShown(text=text):
                self._line(text)
            case RunEnded(error=error):
                if error is not None:
                    self.failed = True
                    self._line(f"[failed: {error.code}] {error.message}")
                self._end_line()
            case _:
                assert_never(change)

    def _message(self, key: str, text: str) -> None:
        shown = self._shown.pop(key, "")
        if text.startswith(shown):
            self._write(text[len(shown) :])
        else:
            self._line(text)
        self._end_line()

    def _result(self, text: str) -> None:
        lines = text.rstrip("\n").split("\n")
        for line in lines[:_RESULT_LINES]:
            self._line(f"  | {line}")
        if len(lines) > _RESULT_LINES:
            self._line(f"  | … {len(lines) - _RESULT_LINES} more lines")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._mid_line = not text.endswith("\n")

    def _line(self, text: str) -> None:
        self._end_line()
        self._write(text + "\n")

    def _end_line(self) -> None:
        if self._mid_line:
            self._write("\n")
