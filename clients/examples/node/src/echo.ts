import type { Run } from "./run.js";

/**
 * Says what it was told, word by word. It asks the host how many messages there were before, and stops between two words
 * when it is cancelled or its time is over.
 */
export async function echo(run: Run): Promise<void> {
  const answer = `You said: ${run.text} (after ${await messagesBefore(run)} messages)`;
  for (const [index, word] of answer.split(/(?<= )/).entries()) {
    if (index > 0) await run.pause(20);
    await run.delta(word);
    await run.flush();
  }
  await run.message(answer);
}

/** Counts the last messages of the conversation, at most 100. The cursor leaves out the one being answered. */
async function messagesBefore(run: Run): Promise<number> {
  const before = run.start.context?.context?.latest_cursor ?? "";
  const answer = await run.call({ page_history: { before, limit: 100 } });
  return answer.page_history?.items?.length ?? 0;
}
