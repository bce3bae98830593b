"""Commands that must not run twice: what was begun under a request id, and how it ended, for an hour.

Written to disk before a command starts, so that after a crash of the box a repeated request is answered with "unknown"
and never with a second run. A write without fsync is enough: what a crash of the whole machine loses, it also ends.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog

from portway.box.backends.types import Exit, ExitStatus
from portway.box.processes.remembered import KEPT_SECONDS, Effect, Name, Remembered
from portway.box.processes.types import CommandRequest, CommandResult, Output
from portway.box.sessions.types import SessionRef
from portway.rpc.errors import Conflict, LimitExceeded, Reason, WrongState

MOST_OUTPUT_KEPT = 64 * 1024
_COMPACT_AFTER_BYTES = 32 * 1024 * 1024


class Claim:
    """The right to run a command under a request id, or the result of the one that ran."""

    def __init__(self, known: CommandResult | None) -> None:
        self.known = known
        self.result: CommandResult | None = None
        self.began = False

    def record(self, result: CommandResult) -> None:
        self.result = result


def digest_of(command: CommandRequest, stdin: bytes) -> str:
    """What makes two commands the same one. The timeout does not: a retry may be more patient."""
    facts = asdict(command) | {"timeout": None, "env": sorted(command.env.items())}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + b"\0" + stdin).hexdigest()


class EffectLedger:
    """In memory, with a file to come back from."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._effects = Remembered()
        self._compact_above = _COMPACT_AFTER_BYTES
        self._read()
        self._compact()

    @asynccontextmanager
    async def claim(
        self, ref: SessionRef, request_id: str, digest: str, role: str, *, reconcile: bool
    ) -> AsyncIterator[Claim]:
        """Claims a request id for a role. A command that runs under it now is waited for.

        Raises `WrongState` with reason EFFECT_UNKNOWN where it was begun and its end is not known (or, to reconcile,
        where it is not known at all), `Conflict` where it stands for another command.
        """
        if not request_id:
            if reconcile:
                raise WrongState("only a command with a request id can be asked for", reason=Reason.EFFECT_UNKNOWN)
            yield Claim(None)
            return
        name = _name(ref, request_id)
        known = await self._known(name, digest, request_id)
        if known is not None:
            yield Claim(replace(known, replayed=True))
            return
        if reconcile:
            raise never_begun(request_id)
        async with self._running(name, digest, role) as claim:
            yield claim

    def result_of(self, ref: SessionRef, request_id: str, role: str) -> CommandResult:
        """The result that is kept of what this role began. Raises `WrongState` where there is none, or none yet."""
        effect = self._effects.get(_name(ref, request_id))
        if effect is None or effect.role != role:
            raise never_begun(request_id)
        if effect.running is not None:
            raise WrongState(f"the command with request id {request_id!r} runs and was begun without `linger`")
        if effect.result is None:
            raise _unknown(request_id, "was begun and its end was not seen; it is not run again")
        return replace(effect.result, replayed=True)

    def is_of_another(self, ref: SessionRef, request_id: str, role: str) -> bool:
        """Whether another role began a command under this request id."""
        effect = self._effects.get(_name(ref, request_id))
        return effect is not None and effect.role != role

    async def _known(self, name: Name, digest: str, request_id: str) -> CommandResult | None:
        effect = self._effects.get(name)
        if effect is None:
            return None
        if effect.digest != digest:
            raise of_another(request_id)
        if effect.running is not None:
            await effect.running.wait()
            effect = self._effects.get(name)
            if effect is None:  # it did not even start
                return None
        if effect.result is None:
            raise _unknown(request_id, "was begun and its end was not seen; it is not run again")
        return effect.result

    @asynccontextmanager
    async def _running(self, name: Name, digest: str, role: str) -> AsyncIterator[Claim]:
        ended = asyncio.Event()
        effect = Effect(digest, role, time.time(), None, ended)
        self._write_begun(name, effect)
        self._effects.add(name, effect)
        self._compact_if_large()
        claim = Claim(None)
        try:
            yield claim
        finally:
            effect.running = None
            if claim.result is not None:
                self._effects.keep(name, _shortened(claim.result))
                self._write_end(_ended_entry(name, _shortened(claim.result)))
            elif not claim.began:
                # Nothing ran: the same request may be tried again.
                self._effects.forget(name)
                self._write_end({"workspace": name[0], "key": name[1], "forgotten": True})
            ended.set()

    def _compact_if_large(self) -> None:
        if self._file.exists() and self._file.stat().st_size > self._compact_above:
            self._compact()

    def _write(self, entry: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            # On a line of its own also where a full disk took only a part of the one before.
            file.write(f"\n{json.dumps(entry)}\n")

    def _write_begun(self, name: Name, effect: Effect) -> None:
        try:
            self._write(_begun_entry(name, effect))
        except OSError as error:
            # What is not written down could run twice after a crash, so it does not run at all.
            raise LimitExceeded(
                f"the box cannot note that it begins this command ({error.strerror}); free space on its disk",
                reason=Reason.DISK_FULL,
            ) from None

    def _write_end(self, entry: dict[str, Any]) -> None:
        try:
            self._write(entry)
        except OSError as error:
            # Its caller has the result; after a crash of the box a repeated request is told that it is unknown.
            structlog.get_logger().error("the end of a command could not be noted", error=error.strerror)

    def _read(self) -> None:
        for entry in _entries(self._file):
            name = entry.get("workspace", ""), entry["key"]
            if entry.get("forgotten"):
                self._effects.forget(name)
            elif "digest" in entry:
                self._effects.add(name, Effect(entry["digest"], entry.get("role", ""), entry["began"], None, None))
            else:
                self._effects.keep(name, _result_from(entry["result"]))

    def _compact(self) -> None:
        """Writes the file anew with what is still kept."""
        self._effects.forget_old(time.time() - KEPT_SECONDS)
        writing = self._file.with_suffix(".new")
        with writing.open("w", encoding="utf-8") as file:
            for name, effect in self._effects.items():
                file.write(json.dumps(_begun_entry(name, effect)) + "\n")
                if effect.result is not None:
                    file.write(json.dumps(_ended_entry(name, effect.result)) + "\n")
        writing.chmod(0o600)
        # Not again before as much was added as is kept: a file that is written anew for each command is a flood too.
        self._compact_above = _COMPACT_AFTER_BYTES + writing.stat().st_size
        writing.rename(self._file)


def _name(ref: SessionRef, request_id: str) -> Name:
    whole = f"{ref.workspace_id}\0{ref.session_id}\0{request_id}"
    return ref.workspace_id, hashlib.sha256(whole.encode()).hexdigest()


def _begun_entry(name: Name, effect: Effect) -> dict[str, Any]:
    workspace_id, key = name
    told = {"digest": effect.digest, "role": effect.role, "began": effect.began}
    return {"workspace": workspace_id, "key": key, **told}


def _ended_entry(name: Name, result: CommandResult) -> dict[str, Any]:
    return {"workspace": name[0], "key": name[1], "result": _result_to(result)}


def of_another(request_id: str) -> Conflict:
    return Conflict(f"request id {request_id!r} stands for another command", reason=Reason.SAME_KEY_OTHER_BODY)


def never_begun(request_id: str) -> WrongState:
    return _unknown(request_id, "was never begun here, or longer ago than is kept")


def _unknown(request_id: str, why: str) -> WrongState:
    return WrongState(f"the command with request id {request_id!r} {why}", reason=Reason.EFFECT_UNKNOWN)


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    """Whole entries; one may be torn by a crash or a full disk."""
    try:
        lines = file.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _shortened(result: CommandResult) -> CommandResult:
    """What is kept for a replay; memory for ten thousand results has to be bounded."""
    output = result.output
    stdout, cut_out = _cut(output.stdout)
    stderr, cut_err = _cut(output.stderr)
    kept = Output(stdout, stderr, output.stdout_left_out + cut_out, output.stderr_left_out + cut_err)
    return replace(result, output=kept)


def _cut(data: bytes) -> tuple[bytes, int]:
    return data[:MOST_OUTPUT_KEPT], max(0, len(data) - MOST_OUTPUT_KEPT)


def _result_to(result: CommandResult) -> dict[str, Any]:
    output = asdict(result.output) | {
        "stdout": base64.b64encode(result.output.stdout).decode(),
        "stderr": base64.b64encode(result.output.stderr).decode(),
    }
    return {"output": output, "exit": asdict(result.exit), "file_error": result.file_error}


def _result_from(fields: dict[str, Any]) -> CommandResult:
    output = dict(fields["output"])
    for name in ("stdout", "stderr"):
        output[name] = base64.b64decode(output[name])
    ended = dict(fields["exit"])
    ended["status"] = ExitStatus(ended["status"])
    return CommandResult(Output(**output), Exit(**ended), file_error=fields.get("file_error", ""))
