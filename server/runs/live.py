"""Attempts that are live now, found by run and by token."""

from portway.rpc.errors import NotAuthenticated, NotFound, PortwayError, Reason, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import ParsedToken, same_secret
from portway.server.runner_calls.scope import RunScope, attempt_superseded, run_finished
from portway.server.runs.attempt import Attempt
from portway.server.runs.pending import QueuedRun
from portway.server.runs.store import Runs
from portway.server.runs.types import AttemptState

TOKEN_KIND = "run"


class LiveAttempts:
    """A registry in memory: a run has at most one live attempt in this host."""

    def __init__(self) -> None:
        self._by_run: dict[tuple[str, str], Attempt] = {}
        self._by_token: dict[str, Attempt] = {}
        self._by_lane: dict[tuple[str, str], Attempt] = {}

    def __len__(self) -> int:
        return len(self._by_run)

    def add(self, run: QueuedRun, attempt: Attempt) -> None:
        self._by_run[run.key] = attempt
        self._by_lane[run.lane] = attempt
        self._by_token[attempt.token.token_id] = attempt

    def remove(self, run: QueuedRun, attempt: Attempt) -> None:
        del self._by_run[run.key]
        del self._by_lane[run.lane]
        del self._by_token[attempt.token.token_id]

    def of_run(self, workspace_id: str, run_id: str) -> Attempt | None:
        return self._by_run.get((workspace_id, run_id))

    def of_conversation(self, workspace_id: str, conversation_id: str) -> Attempt | None:
        return self._by_lane.get((workspace_id, conversation_id))

    def of_token(self, token_id: str) -> Attempt | None:
        return self._by_token.get(token_id)

    def note(self, token_id: str, reason: str, summary: str) -> None:
        """An entry in the ledger of the run whose token it is, unless that has ended."""
        attempt = self._by_token.get(token_id)
        if attempt is not None and attempt.scope.ended is None:
            attempt.results.note(reason, summary)

    def all(self) -> list[Attempt]:
        return list(self._by_run.values())


class RunTokens:
    """Tokens of runs: alive as long as their attempt is."""

    def __init__(self, live: LiveAttempts, runs: Runs) -> None:
        self._live = live
        self._runs = runs

    async def authenticate(self, token: ParsedToken) -> Caller:
        """Raises NotAuthenticated; WrongState (RUN_FINISHED) and Stale (ATTEMPT_SUPERSEDED) for one that once was."""
        attempt = self._live.of_token(token.token_id)
        if attempt is not None:
            if not same_secret(attempt.token.secret_hash, token.secret_hash):
                raise _invalid()
            attempt.scope.check_alive()
            return Caller(Role.RUNNER, attempt.scope.workspace_id, token.token_id, attempt.scope.run_id)
        raise await self._past(token)

    def of_bridge(self, token: ParsedToken) -> RunScope:
        """The run of a bridge token whose attempt is live. Raises NotAuthenticated, and what `check_alive` raises."""
        attempt = self._live.of_token(token.token_id)
        if attempt is None or not same_secret(attempt.bridge_token.secret_hash, token.secret_hash):
            raise NotAuthenticated("the bridge token is not valid: it is wrong, or its run has ended")
        attempt.scope.check_alive()
        return attempt.scope

    def scope(self, caller: Caller) -> RunScope:
        """The run of an authenticated caller. Raises WrongState where it has ended meanwhile or there is none."""
        if caller.role is not Role.RUNNER:
            raise WrongState(
                f"A token with the role {caller.role.name.lower()} has no run: this call needs a run's own token, "
                "which its runner is given.",
                reason=Reason.RUN_FINISHED,
            )
        attempt = self._live.of_token(caller.token_id)
        if attempt is None:
            raise run_finished(caller.subject, "ended")
        return attempt.scope

    async def _past(self, token: ParsedToken) -> PortwayError:
        try:
            attempt = await self._runs.attempt_of_token(token.token_id)
        except NotFound:
            return _invalid()
        if not same_secret(attempt.token_hash, token.secret_hash):
            return _invalid()
        if attempt.state is AttemptState.ENDED:
            return run_finished(attempt.run_id, attempt.outcome)
        return attempt_superseded(attempt.run_id, attempt.attempt)


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("the run token is not valid")
