"""What runners keep of a conversation in other words: it must not outlive what it was made from.

The names are those that the runners of Portway use; another runner that sums conversations up does well to use them.
"""

from portway.server.storage_engine.prefixes import prefix_end
from portway.server.storage_engine.transaction import Params, Transaction

# A summary of the older part of the conversation, and what a run that asked people had before it.
SUMMARY_KEY = "runner.compaction.checkpoint"
PENDING_KEY = "runner.question.pending"
_FORGET = """
UPDATE state SET value_json = '', deleted = 1, version = version + 1, update_time = :now
WHERE workspace_id = :workspace_id AND scope = 'conversation' AND scope_key >= :begin AND scope_key < :end
  AND key = :key AND deleted = 0 AND update_time >= :said_time
"""


def forget_summaries(tx: Transaction, workspace_id: str, conversation_id: str, said_time: int) -> int:
    """A message was changed that was said then: summaries from before it do not hold it and stay."""
    return _forget(tx, workspace_id, conversation_id, SUMMARY_KEY, said_time)


def forget_derived(tx: Transaction, workspace_id: str, conversation_id: str, said_time: int) -> int:
    """A message was erased: nothing that may repeat it stays."""
    summaries = forget_summaries(tx, workspace_id, conversation_id, said_time)
    return summaries + _forget(tx, workspace_id, conversation_id, PENDING_KEY, said_time)


def _forget(tx: Transaction, workspace_id: str, conversation_id: str, key: str, said_time: int) -> int:
    # A scope's key is the conversation and the thread.
    begin = conversation_id.replace("%", "%25").replace("/", "%2F") + "/"
    params: Params = {
        "workspace_id": workspace_id,
        "begin": begin,
        "end": prefix_end(begin),
        "key": key,
        "said_time": said_time,
        "now": tx.now,
    }
    return tx.execute(_FORGET, params)
