"""Validations: each goes its stages whoever watches, and is kept for a while after its end."""

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from portway.box.backends.interface import Sandbox
from portway.box.backends.types import SandboxSpec
from portway.box.images.checks import ENV, check_architecture, run_checks
from portway.box.images.interface import Images
from portway.box.images.types import Check, Image, ImageName, Stage, Validation
from portway.box.isolation.limits import MEBI, Limits
from portway.box.tasks import TaskOwner
from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Quota
from portway.rpc.ids import new_id

KEPT_SECONDS = 300.0
_MOST_KEPT = 200
_START_SECONDS = 60.0
_LIMITS = Limits(memory_bytes=256 * MEBI, disk_bytes=16 * MEBI, inodes=1024, temporary_bytes=8 * MEBI)
Create = Callable[[SandboxSpec], Awaitable[Sandbox]]


class LiveValidation:
    """One validation: all that it ever was, for those who come later, and a wait for what it will be."""

    def __init__(self, first: Validation) -> None:
        self._states = [first]
        self._arrived = asyncio.Event()
        self._ended_at = 0.0

    @property
    def now(self) -> Validation:
        return self._states[-1]

    def is_over_since(self, moment: float) -> bool:
        return self.now.stage.is_end and self._ended_at < moment

    def become(self, state: Validation) -> None:
        self._states.append(state)
        if state.stage.is_end:
            self._ended_at = time.monotonic()
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()

    async def states(self) -> AsyncIterator[Validation]:
        """From the first to the last."""
        told = 0
        while True:
            arrived = self._arrived
            while told < len(self._states):
                yield self._states[told]
                told += 1
            if self.now.stage.is_end:
                return
            await arrived.wait()


class Validations:
    """Starts validations, shares those under way, and finds them again."""

    def __init__(self, create: Create, most: int) -> None:
        self._create = create
        self._most = most
        self._all: dict[str, LiveValidation] = {}
        self._tasks = TaskOwner("validations of images")
        self._references: dict[str, str] = {}

    def begin(self, images: Images, name: ImageName) -> LiveValidation:
        """The validation of an image, that one under way where there is one. Raises `LimitExceeded`."""
        self._forget()
        under_way = [live for live in self._all.values() if not live.now.stage.is_end]
        for live in under_way:
            if (live.now.workspace_id, live.now.image) == (name.workspace_id, name.name):
                return live
        if len(under_way) >= self._most:
            raise LimitExceeded(
                f"{len(under_way)} validations are under way; try again when one is over",
                retry_after=5.0,
                quota=Quota("box", f"{self._most} validations at the same time"),
            )
        identity = new_id("imv")
        first = Validation(identity, name.workspace_id, name.name, Stage.SUBMITTED, (), "", "", time.time())
        live = self._all[identity] = LiveValidation(first)
        self._tasks.start(self._run(live, images, name))
        return live

    def get(self, workspace_id: str, validation_id: str) -> Validation:
        self._forget()
        live = self._all.get(validation_id)
        if live is None or live.now.workspace_id != workspace_id:
            raise NotFound.of("image validation", validation_id)
        return live.now

    def count_of_image(self, reference: str) -> int:
        """How many validations use an image now."""
        return sum(1 for used in self._references.values() if used == reference)

    def _forget(self) -> None:
        moment = time.monotonic() - KEPT_SECONDS
        over = [key for key, live in self._all.items() if live.now.stage.is_end]
        for number, key in enumerate(over):
            if self._all[key].is_over_since(moment) or number < len(over) - _MOST_KEPT:
                del self._all[key]

    async def _run(self, live: LiveValidation, images: Images, name: ImageName) -> None:
        try:
            self._step(live, Stage.PULLING)
            image, _notes = await images.fetch(name, lambda came, of: self._pulled(live, came, of))
            self._references[live.now.validation_id] = image.reference
            live.become(dataclasses.replace(live.now, stage=Stage.STARTING, digest=image.digest))
            await self._try(live, image)
            wrong = [check.name for check in live.now.checks if not check.passed]
            if wrong:
                count = len(live.now.checks)
                self._fail(live, f"{len(wrong)} of {count} checks did not pass: {', '.join(wrong)}")
            else:
                live.become(dataclasses.replace(live.now, stage=Stage.COMPLETED, end_time=time.time()))
        except PortwayError as error:
            self._fail(live, f"while {live.now.stage.value.replace('_', ' ')}: {error.message}")
        except TimeoutError:
            self._fail(live, f"while starting: no session came up within {_START_SECONDS:.0f} s")
        finally:
            self._references.pop(live.now.validation_id, None)
            if not live.now.stage.is_end:
                self._fail(live, "the box broke it off; begin it again")

    async def _try(self, live: LiveValidation, image: Image) -> None:
        fitting = check_architecture(image)
        self._note(live, fitting)
        if not fitting.passed:
            return
        spec = SandboxSpec(f"image{os.urandom(8).hex()}", _LIMITS, env=ENV, image=image.reference)
        async with asyncio.timeout(_START_SECONDS):
            sandbox = await self._create(spec)
        try:
            self._step(live, Stage.RUNNING_CHECKS)
            async with aclosing(run_checks(sandbox)) as checks:  # type: ignore[type-var]
                async for check in checks:
                    self._note(live, check)
        finally:
            await sandbox.delete()

    @staticmethod
    def _step(live: LiveValidation, stage: Stage) -> None:
        live.become(dataclasses.replace(live.now, stage=stage))

    @staticmethod
    def _pulled(live: LiveValidation, came: int, total: int) -> None:
        live.become(dataclasses.replace(live.now, received_bytes=came, total_bytes=total))

    @staticmethod
    def _note(live: LiveValidation, check: Check) -> None:
        live.become(dataclasses.replace(live.now, checks=(*live.now.checks, check)))

    @staticmethod
    def _fail(live: LiveValidation, reason: str) -> None:
        live.become(dataclasses.replace(live.now, stage=Stage.FAILED, reason=reason, end_time=time.time()))

    async def close(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks.close()
