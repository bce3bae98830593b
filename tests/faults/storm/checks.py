"""The invariants, looked at from outside when the storm is over.

What callers saw, what the API says, what the database holds, and what is on the platform, in the sandboxes and in the
file of the plugin must fit together. Each function answers what does not.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from portway.clients.box import Box
from portway.clients.host import Portway
from portway.rpc.errors import PortwayError
from portway.v1 import run_pb2, run_result_pb2
from tests.faults.host_process import ENDED
from tests.faults.storm.installation import Installation
from tests.faults.storm.load import Tally
from tests.faults.storm.platform import lines

COMPLETED = run_pb2.RUN_STATE_COMPLETED
TERMINAL = "('run_completed', 'run_failed')"
Runs = dict[str, run_pb2.Run]
WAITING_NOTICE = "A person has to approve"
MANY_FAILED = 0.2
"""More runs than this part that failed, and the storm proves nothing."""


def log_of_events(place: Installation, tally: Tally) -> Iterator[str]:
    """I1, I3: what was acknowledged is there once, and what was asked until it was acknowledged is there once too."""
    rows = place.rows("SELECT dedupe_key, event_id, run_id, sequence FROM events ORDER BY sequence")
    keys = Counter(str(row[0]) for row in rows)
    stored = {str(key): (str(event), str(run)) for key, event, run, _ in rows}
    wanted = {said.key: (said.event_id, said.run_id) for said in tally.said.values()}
    wanted |= {key: (event, run) for key, event, run, _ in lines(place.folder / "taken")}
    for key, ids in wanted.items():
        count = sum(number for stored_key, number in keys.items() if stored_key == key)
        if count != 1:
            yield f"I1: {key} was acknowledged and is in the log {count} times"
        elif stored[key] != ids:
            yield f"I1: {key} was acknowledged as {ids} and is {stored[key]}"
    sequences = [row[3] for row in rows]
    if sequences != list(range(1, len(rows) + 1)):
        yield "I1: the log of events has a gap"
    people = {f"chat{path.name[9:]}-{line[0]}" for path in place.folder.glob("sent-chat*") for line in lines(path)}
    for key in people - set(wanted):
        yield f"I3: {key} was said on the platform and never taken"


def ends_of_runs(place: Installation, runs: Runs) -> Iterator[str]:
    """I5, I6: every run has ended once, by one attempt, and no earlier attempt wrote after a later one began."""
    for run in runs.values():
        if run.state not in ENDED:
            yield f"I5: {run.run_id} is {run_pb2.RunState.Name(run.state)}"
    ends = place.rows(
        f"SELECT run_id, COUNT(*), MAX(sequence) FROM run_events WHERE kind IN {TERMINAL} GROUP BY run_id"
    )
    last = dict(place.rows("SELECT run_id, last_sequence FROM runs"))
    ended = {str(run_id): (count, sequence) for run_id, count, sequence in ends}
    for run_id in runs:
        if ended.get(run_id) != (1, last.get(run_id)):
            yield f"I5: {run_id} has ends (count, sequence) {ended.get(run_id)} of {last.get(run_id)} events"
    attempts = defaultdict(list)
    for run_id, attempt in place.rows("SELECT run_id, attempt FROM run_events ORDER BY run_id, sequence"):
        attempts[str(run_id)].append(attempt)
    for run_id, found in attempts.items():
        if found != sorted(found):
            yield f"I6: in {run_id} an earlier attempt wrote after a later one: {found}"
    live = place.rows("SELECT run_id, COUNT(*) FROM run_attempts WHERE state = 'live' GROUP BY run_id")
    for run_id, count in live:
        yield f"I6: {run_id} has {count} live attempts after its end"


async def ledgers(host: Portway, runs: Runs, tally: Tally) -> list[str]:
    """I7: sequences without gaps, two replays byte for byte the same, and the same as what was seen live."""
    wrong = []
    for run in runs.values():
        first, second = [await _replay(host, run.run_id) for _ in range(2)]
        if list(first) != list(range(1, run.last_sequence + 1)):
            wrong.append(f"I7: {run.run_id} has events {list(first)} of {run.last_sequence}")
        if first != second:
            wrong.append(f"I7: two replays of {run.run_id} differ")
        for sequence, seen in tally.seen.get(run.run_id, {}).items():
            if first.get(sequence) != seen:
                wrong.append(f"I7: event {sequence} of {run.run_id} was another one when it was seen live")
    return wrong


async def _replay(host: Portway, run_id: str) -> dict[int, bytes]:
    return {
        event.sequence: event.SerializeToString(deterministic=True)
        async for event in host.runs.watch(run_id, committed_only=True)
    }


def deliveries(place: Installation) -> Iterator[str]:
    """I8, I9: on the platform stands every delivery once, and in each chat in the order of the conversation."""
    shown = lines(place.folder / "shown")
    times = Counter(line[0] for line in shown)
    position = {delivery_id: number for number, delivery_id in enumerate(line[0] for line in shown)}
    order: dict[str, list[int]] = defaultdict(list)
    rows = place.rows(
        "SELECT delivery_id, state, conversation_id FROM deliveries WHERE surface = 'storm'"
        " ORDER BY conversation_id, sequence"
    )
    for delivery_id, state, conversation_id in rows:
        if times[str(delivery_id)] != 1 or state != "acknowledged":
            yield f"I8: delivery {delivery_id} is {state} and stands on the platform {times[str(delivery_id)]} times"
        else:
            order[str(conversation_id)].append(position[str(delivery_id)])
    for delivery_id in set(times) - {str(row[0]) for row in rows}:
        yield f"I8: the platform shows {delivery_id}, which the host does not know"
    for conversation_id, positions in order.items():
        if positions != sorted(positions):
            yield f"I9: the platform shows conversation {conversation_id} in the order {positions}"


def replies(place: Installation, runs: Runs) -> Iterator[str]:
    """I5, I9: a completed run has one message in the transcript, any other one notice, in the order of the events."""
    rows = place.rows(
        "SELECT t.run_id, t.kind, r.conversation_id, r.event_sequence"
        " FROM transcript t JOIN runs r ON r.run_id = t.run_id"
        f" WHERE t.role <> 'user' AND t.text NOT LIKE '{WAITING_NOTICE}%' ORDER BY t.conversation_id, t.sequence"
    )
    final = [row for row in rows if row[1] in ("message", "notice")]
    said: dict[str, list[str]] = defaultdict(list)
    for run_id, kind, *_ in final:
        said[str(run_id)].append(str(kind))
    for run in runs.values():
        wanted = ["message"] if run.state == COMPLETED else ["notice"]
        if run.finish_reason == run_result_pb2.FINISH_REASON_AWAITING_INTERACTION:
            wanted = []
        if said[run.run_id] != wanted:
            yield f"I5: {run.run_id} ({run_pb2.RunState.Name(run.state)}) ended with {said[run.run_id]}"
    order: dict[str, list[int]] = defaultdict(list)
    for _, _, conversation_id, sequence in final:
        order[str(conversation_id)].append(int(str(sequence)))
    for conversation_id, sequences in order.items():
        if sequences != sorted(sequences):
            yield f"I9: the replies of {conversation_id} stand in the order of events {sequences}"


def snapshots(place: Installation, before: dict[str, str]) -> Iterator[str]:
    """I10: what a run was authorized to do when it began is what stands there now."""
    for run_id, digest in digests(place).items():
        if before.get(run_id, digest) != digest:
            yield f"I10: the snapshot of {run_id} has changed"


def digests(place: Installation) -> dict[str, str]:
    rows = place.rows("SELECT run_id, snapshot, context FROM run_snapshots")
    return {str(run): hashlib.sha256(bytes(one) + bytes(two)).hexdigest() for run, one, two in rows}


def state(place: Installation, done: dict[str, str]) -> Iterator[str]:
    """I11: every word that a completed run counted is there, and none of them twice."""
    kept: Counter[str] = Counter()
    for (value,) in place.rows("SELECT value_json FROM state WHERE \"key\" = 'counted'"):
        kept.update(json.loads(str(value)))
    for word, count in kept.items():
        if count != 1:
            yield f"I11: {word} was counted {count} times"
    for word in (word for word, deed in done.items() if deed == "count" and not kept[word]):
        yield f"I11: {word} was counted and is lost"


def effects(place: Installation, done: dict[str, str], ran: Counter[str]) -> Iterator[str]:
    """I14, and tools with effects: nothing was done twice, and what was said to be done was done.

    What commands left goes with the session when the box is killed; that they ran is in their output, without which
    their run has failed.
    """
    marked = Counter(line[0].split(" ")[0] for line in lines(place.marks))
    for what, counted in (("marked", marked), ("run", ran)):
        for word, count in counted.items():
            if count != 1:
                yield f"I14: {word} was {what} {count} times"
    for word in (word for word, deed in done.items() if deed in ("mark", "approve") and not marked[word]):
        yield f"I14: {word} is said to have been marked and was not"


async def commands(place: Installation) -> Counter[str]:
    """The words that commands left in the sandboxes."""
    ran: Counter[str] = Counter()
    async with Box(place.stack.box_address, token=place.token) as box:
        for session in await box.list_sessions("default"):
            printed = b""
            argv = ["sh", "-c", "cat /workspace/ran 2>/dev/null || true"]
            async for answer in box.exec(session.session_id, argv, workspace_id=session.workspace_id):
                printed += answer.stdout
            ran.update(printed.decode().split())
    return ran


async def files(host: Portway, tally: Tally) -> list[str]:
    """I12: what was acknowledged is whole."""
    wrong = []
    for artifact_id, digest in tally.files.items():
        found = hashlib.sha256()
        try:
            async for piece in host.artifacts.read(artifact_id):
                found.update(piece)
        except PortwayError as error:
            wrong.append(f"I12: {artifact_id} was acknowledged and cannot be read: {error}")
        else:
            if found.digest() != digest:
                wrong.append(f"I12: {artifact_id} is not what was uploaded")
    return wrong


def spending(place: Installation, done: dict[str, str], runs: Runs, words: dict[str, str]) -> Iterator[str]:
    """Each completed question to a model is counted, and one of a run that was never interrupted is counted once."""
    rows = place.rows("SELECT run_id, SUM(calls) FROM spending WHERE model_id <> '' GROUP BY run_id")
    calls = {str(run_id): int(str(count)) for run_id, count in rows}
    for word in (word for word, deed in done.items() if deed == "model"):
        run = runs[words[word]]
        if not 1 <= calls.get(run.run_id, 0) <= run.attempt:
            yield f"spending: {run.run_id} had {run.attempt} attempts and {calls.get(run.run_id, 0)} calls are counted"


def people(place: Installation, tally: Tally) -> Iterator[str]:
    """Questions are answered once, and nothing that was decided is undecided."""
    for run_id, count in place.rows(
        "SELECT answer_event_id, COUNT(*) FROM interactions WHERE state = 'answered'"
        " GROUP BY answer_event_id HAVING COUNT(*) > 1"
    ):
        yield f"I3: one event {run_id} answers {count} questions"
    answers = {str(row[0]): str(row[1]) for row in place.rows("SELECT run_id, answer_run_id FROM interactions")}
    for run_id, answer_run in tally.answered.items():
        if answers.get(run_id) != answer_run:
            yield f"I11: the answer to {run_id} was taken as {answer_run} and is {answers.get(run_id)}"
    states = {str(row[0]): str(row[1]) for row in place.rows("SELECT approval_id, state FROM approvals")}
    for approval_id in tally.decided:
        if states.get(approval_id) not in ("approved", "denied"):
            yield f"I11: approval {approval_id} was decided and is {states.get(approval_id)}"


def successes(runs: Iterable[run_pb2.Run]) -> Iterator[str]:
    """A storm in which everything merely failed is no pass."""
    states = Counter(run.state == COMPLETED for run in runs)
    if not states[True] or states[False] > MANY_FAILED * (states[True] + states[False]):
        yield f"only {states[True]} runs completed and {states[False]} did not"
