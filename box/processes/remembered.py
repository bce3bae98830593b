"""What is kept in memory of commands with request ids, within bounds that no workspace can use up for others."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from portway.box.processes.types import CommandResult, Output

KEPT_SECONDS = 3600.0
# Of all workspaces together. The one that has the most gives up its oldest.
MOST_KEPT = 50_000
# Of all results together; the oldest lose their output first, and keep how they ended.
MOST_OUTPUT_TOGETHER = 16 * 1024 * 1024
Name = tuple[str, str]
"""A workspace, and the key of a command in it."""


@dataclass(slots=True)
class Effect:
    """A command that was begun; `running` is set when it has ended. Time in seconds since the epoch."""

    digest: str
    role: str
    began: float
    result: CommandResult | None
    running: asyncio.Event | None


@dataclass(slots=True)
class _Shelf:
    """Of one workspace, oldest first."""

    effects: OrderedDict[str, Effect] = field(default_factory=OrderedDict)
    # Those whose output is kept, with its bytes.
    with_output: OrderedDict[str, int] = field(default_factory=OrderedDict)
    output_bytes: int = 0

    def forget(self, key: str) -> None:
        self.effects.pop(key, None)
        self.output_bytes -= self.with_output.pop(key, 0)

    def strip_oldest(self) -> None:
        key, size = self.with_output.popitem(last=False)
        self.output_bytes -= size
        effect = self.effects[key]
        if effect.result is not None:
            effect.result = replace(effect.result, output=_without_text(effect.result.output))


class Remembered:
    """Effects by name."""

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        self._count = 0
        self._output_bytes = 0

    def get(self, name: Name) -> Effect | None:
        shelf = self._shelves.get(name[0])
        effect = None if shelf is None else shelf.effects.get(name[1])
        if effect is None or effect.running is not None or effect.began > time.time() - KEPT_SECONDS:
            return effect
        self.forget(name)
        return None

    def add(self, name: Name, effect: Effect) -> None:
        self.forget(name)
        shelf = self._shelves.setdefault(name[0], _Shelf())
        shelf.effects[name[1]] = effect
        self._count += 1
        self._forget_from(name[0], time.time() - KEPT_SECONDS)
        while self._count > MOST_KEPT and self._drop_one():
            pass

    def keep(self, name: Name, result: CommandResult) -> None:
        """Keeps how it ended. What was dropped meanwhile stays dropped."""
        shelf = self._shelves.get(name[0])
        effect = None if shelf is None else shelf.effects.get(name[1])
        if shelf is None or effect is None:
            return
        effect.result = result
        size = len(result.output.stdout) + len(result.output.stderr)
        change = size - shelf.with_output.pop(name[1], 0)
        shelf.with_output[name[1]] = size
        shelf.output_bytes += change
        self._output_bytes += change
        while self._output_bytes > MOST_OUTPUT_TOGETHER:
            largest = max(self._shelves.values(), key=lambda one: one.output_bytes)
            self._output_bytes -= largest.output_bytes
            largest.strip_oldest()
            self._output_bytes += largest.output_bytes

    def forget(self, name: Name) -> None:
        shelf = self._shelves.get(name[0])
        if shelf is None or name[1] not in shelf.effects:
            return
        self._output_bytes -= shelf.output_bytes
        shelf.forget(name[1])
        self._output_bytes += shelf.output_bytes
        self._count -= 1
        if not shelf.effects:
            del self._shelves[name[0]]

    def forget_old(self, before: float) -> None:
        """Drops what began before, and does not run any more."""
        for workspace_id in list(self._shelves):
            self._forget_from(workspace_id, before)

    def items(self) -> Iterator[tuple[Name, Effect]]:
        for workspace_id, shelf in self._shelves.items():
            for key, effect in shelf.effects.items():
                yield (workspace_id, key), effect

    def _forget_from(self, workspace_id: str, before: float) -> None:
        shelf = self._shelves[workspace_id]
        for _ in range(len(shelf.effects)):
            key, effect = next(iter(shelf.effects.items()))
            if effect.running is not None:
                # One that takes long must not keep those behind it.
                shelf.effects.move_to_end(key)
            elif effect.began > before:
                break
            else:
                self.forget((workspace_id, key))

    def _drop_one(self) -> bool:
        """The oldest of the workspace that has the most; False where all of its commands still run."""
        workspace_id, shelf = max(self._shelves.items(), key=lambda one: len(one[1].effects))
        key = next((key for key, effect in shelf.effects.items() if effect.running is None), None)
        if key is not None:
            self.forget((workspace_id, key))
        return key is not None


def _without_text(output: Output) -> Output:
    out, errors = len(output.stdout), len(output.stderr)
    return Output(b"", b"", output.stdout_left_out + out, output.stderr_left_out + errors)
