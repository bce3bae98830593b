"""What the run may still spend, so that it ends with an answer and not in the middle of one."""

from portway.runtime.sdk import Budget, Usage, add_usage

# What an answer takes where nobody knows it yet.
USUAL_ANSWER_TOKENS = 1_000


class Purse:
    """Counts against the run's own budget. The host counts too, and its word is the last: here is only foresight."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget or Budget()
        self._tokens = 0
        self._calls = 0
        self._cost = 0
        self._dearest = 0
        self._longest = 0
        self._models: dict[str, Usage] = {}

    def paid_model(self, usage: Usage, estimate: int) -> None:
        """A model was asked. Where it does not tell what it used, the estimate of its input counts."""
        known = usage.input_tokens is not None
        output = usage.output_tokens if usage.output_tokens is not None else USUAL_ANSWER_TOKENS
        used = ((usage.input_tokens or 0) if known else estimate) + output
        self._longest = max(self._longest, output)
        self._tokens += used
        self._calls += 1
        self._cost += usage.cost_micros or 0
        self._dearest = max(self._dearest, usage.cost_micros or 0)
        earlier = self._models.get(usage.model_id)
        self._models[usage.model_id] = add_usage([earlier, usage]) if earlier else usage

    def paid_tools(self, count: int) -> None:
        self._calls += count

    @property
    def calls_left(self) -> int | None:
        """Of models and tools, with one kept for the last answer; None where there is no limit."""
        return None if self._budget.calls is None else max(0, self._budget.calls - self._calls - 1)

    def is_nearly_spent(self, next_input: int) -> bool:
        """Whether after one more answer there would be nothing left for another: that one is to be the last."""
        answer = max(self._longest, USUAL_ANSWER_TOKENS)
        budget = self._budget
        if budget.tokens is not None and self._tokens + 2 * (next_input + answer) > budget.tokens:
            return True
        if budget.cost_micros is not None and self._cost + 2 * self._dearest > budget.cost_micros:
            return True
        return self.calls_left is not None and self.calls_left < 2

    @property
    def total(self) -> Usage:
        return add_usage(self._models.values())

    def lines(self) -> str:
        """What each model used, for people; empty where it was only one."""
        if len(self._models) < 2:
            return ""
        return "used: " + "; ".join(
            f"{name or 'a model'} {_told(one.input_tokens)} in, {_told(one.output_tokens)} out"
            for name, one in self._models.items()
        )


def _told(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
