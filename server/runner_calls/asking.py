"""The one way to a model: checked, paid for, measured. Calls of runners and the model gateway take it."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from portway.rpc.errors import Reason
from portway.rpc.traces.span import OpenSpan, entered_span
from portway.rpc.traces.types import Kind
from portway.server.models.errors import ModelError, PassedOver
from portway.server.models.fallback import ResolvedModel, RoutedEvent, stream_with_fallback
from portway.server.models.provider import AnswerBuilder
from portway.server.models.registry import ModelRegistry, WorkspaceModels
from portway.server.models.types import Caller, ModelAnswer, ModelInfo, ModelKind, ModelRequest, Usage
from portway.server.models.wire import answer_to_wire, usage_to_wire
from portway.server.runner_calls.bill import Bill, estimate_of
from portway.server.runner_calls.scope import RunScope
from portway.server.switches.directory import KillSwitches
from portway.server.switches.types import SwitchKind
from portway.v1 import run_model_pb2 as pb
from portway.v1 import usage_pb2


@dataclass(frozen=True, slots=True)
class Answered:
    """The whole answer, after its pieces: as the contract has it, and with everything that its message holds."""

    message: pb.ModelAnswer
    answer: ModelAnswer


Pieces = AsyncGenerator[RoutedEvent | Answered, None]


class Asking:
    """Questions of runs to the models of their workspace."""

    def __init__(self, models: WorkspaceModels, switches: KillSwitches) -> None:
        self._all = models
        self._switches = switches

    def registry(self, run: RunScope) -> ModelRegistry:
        return self._all.of(run.workspace_id)

    def models(self, run: RunScope, names: Sequence[str], action: str) -> Sequence[ResolvedModel]:
        """The primary and its fallbacks, without those that an operator has stopped.

        Raises NotFound for one that the run was not given; WrongState (KILL_SWITCH) where none is left.
        """
        found = {name: self._given(run, name, action, ModelKind.LLM) for name in names}
        left = self._switches.first_allowed(run.workspace_id, SwitchKind.MODEL, names)
        if not left:
            self._refuse_stopped(run, names[0], action)
        return [found[name] for name in left]

    def one(self, run: RunScope, model_id: str, action: str, kind: ModelKind) -> ResolvedModel:
        """Raises NotFound for one that the run was not given; WrongState (KILL_SWITCH)."""
        found = self._given(run, model_id, action, kind)
        self._refuse_stopped(run, model_id, action)
        return found

    def _given(self, run: RunScope, model_id: str, action: str, kind: ModelKind) -> ResolvedModel:
        if model_id not in run.snapshot.models:
            raise run.missing(action, "model", model_id)
        return self.registry(run).resolve(model_id, kind)

    def _refuse_stopped(self, run: RunScope, model_id: str, action: str) -> None:
        if self._switches.refusal(run.workspace_id, SwitchKind.MODEL, model_id):
            run.refuse(action, f"model {model_id}", Reason.KILL_SWITCH)
            self._switches.check(run.workspace_id, SwitchKind.MODEL, model_id)

    async def ask(self, run: RunScope, models: Sequence[ResolvedModel], question: ModelRequest) -> Pieces:
        """The pieces of an answer and then, once, the whole of it; paid for by the run's budgets.

        Read it inside `contextlib.aclosing`, bounded by the run's time. Raises a ModelError, or LimitExceeded
        (BUDGET_EXHAUSTED), and the run ends with it.
        """
        bill = await Bill.open(run, models[0].info.model_id, estimate_of(question))
        passed_over = list[PassedOver]()
        builder = AnswerBuilder(models[0].provider.provider_id, models[0].name)
        asked = bill.capped(replace(question, caller=caller_of(run)))
        began, outcome = time.monotonic(), "cancelled"
        span = entered_span("model call", Kind.CLIENT)
        try:
            async with aclosing(stream_with_fallback(models[0], models[1:], asked)) as events:
                async for event in events:
                    if isinstance(event, PassedOver):
                        passed_over.append(event)
                        serving = models[len(passed_over)]
                        builder = AnswerBuilder(serving.provider.provider_id, serving.name)
                        yield event
                        continue
                    bill.saw(event)
                    answer = builder.add(event)
                    if answer is None:
                        yield event
                        continue
                    message, outcome = self._measured(run, models, answer, passed_over), "ok"
                    bill.measured(message.usage)
                    yield event
                    yield Answered(message, answer)
                    return
        except ModelError as error:
            outcome = str(error.code)
            bill.refused()
            raise
        finally:
            bill.close()
            _told(run, models[len(passed_over)].info, outcome, began, span)
        raise builder.unfinished()

    def used(self, run: RunScope, model_id: str, usage: Usage) -> usage_pb2.Usage:
        """What a call used and cost, counted for the run."""
        message = usage_to_wire(usage, model_id, self.registry(run).prices.cost(model_id, usage))
        run.usage.measured(message)
        run.counts.model_used(self.registry(run).model(model_id).provider_id, model_id, message)
        return message

    def _measured(
        self, run: RunScope, models: Sequence[ResolvedModel], answer: ModelAnswer, passed_over: Sequence[PassedOver]
    ) -> pb.ModelAnswer:
        model_id = models[len(passed_over)].info.model_id
        cost = self.registry(run).prices.cost(model_id, answer.usage)
        message = answer_to_wire(answer, model_id, passed_over, cost)
        run.usage.measured(message.usage)
        run.counts.model_used(models[len(passed_over)].info.provider_id, model_id, message.usage)
        for passed in passed_over:
            run.counts.model_passed_over(passed.model_id, str(passed.code))
            run.note("model.passed_over", passed.model_id, f"{passed.code}; answered by {model_id}")
        return message


def caller_of(run: RunScope) -> Caller:
    """Who asks, for the queues of providers."""
    return Caller(lane=run.run_id, patience=run.time_left())


def _told(run: RunScope, info: ModelInfo, outcome: str, began: float, span: OpenSpan | None) -> None:
    """The question has its end: for those who count and those who trace."""
    run.counts.model_asked(info.provider_id, info.model_id, outcome, time.monotonic() - began)
    if span is not None:
        span.leave()
        span.set(provider=info.provider_id, model=info.model_id)
        if outcome != "ok":
            span.fail(outcome)
        span.end()
