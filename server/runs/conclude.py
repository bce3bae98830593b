"""What an attempt's end comes to: an answer, a failure, or another attempt."""

from portway.server.agents.types import InterruptedPolicy
from portway.server.runs import ending as ends
from portway.server.runs.attempt import Attempt
from portway.server.runs.ending import Completed, Ending, Failed
from portway.server.runs.voice import Voice
from portway.server.snapshot.restore import policy_when_interrupted

# What was cut off begins again as soon as the other side may be back; where it is not, the attempt waits for it.
INTERRUPTED_DELAY_SECONDS = 0.2


def checked_end(attempt: Attempt, ending: Completed, voice: Voice) -> Ending:
    """Say the last message, if it was not said; silence where somebody waits is no good end."""
    terminal = attempt.results.terminal
    if terminal is not None and terminal.run_completed.HasField("message"):
        last = terminal.run_completed.message
        if not voice.has_completed(last.message_key):
            voice.say(last, ending.runner_sequence, ending.runner_sequence)
    addressee = attempt.assignment.addressee
    silent = addressee.spec is not None and addressee.spec.delivery_policy.reply_disabled
    if ending.finish_reason == ends.AWAITING:
        if attempt.scope.asked:
            return ending
        # It waits for nobody: it has asked nothing.
        ending = Completed("stop", ending.runner_sequence)
    if voice.has_spoken or silent or not addressee.facts.expects_reply:
        return ending
    runner_id = attempt.assignment.snapshot.runner.runner_id
    return ends.failed(ends.EMPTY_OUTPUT, f"{runner_id} completed without saying anything, and an answer is expected.")


def delay_before_next(attempt: Attempt, ending: Failed, voice: Voice) -> float | None:
    """Seconds until another attempt; nothing where there is none. What people have seen is not said twice."""
    if attempt.scope.asked or not ending.failure.retryable or voice.has_spoken or attempt.scope.effect_lost:
        return None
    spec, number = attempt.assignment.snapshot.spec, attempt.assignment.attempt
    if number < spec.retry_policy.max_attempts:
        return float(spec.retry_policy.first_delay_seconds * 2 ** (number - 1))
    policy = policy_when_interrupted(spec, attempt.assignment.snapshot.runner)
    if ending.interrupted and policy is InterruptedPolicy.RETRY and number < ends.MAX_ATTEMPTS:
        return INTERRUPTED_DELAY_SECONDS
    return None
