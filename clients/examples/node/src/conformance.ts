// Does what the first word of the message says. `portway plugin test` and the suite of Portway ask for it; a plugin of
// your own may leave it out.
import { encodeFrame, type Result } from "./contract.js";
import { MAX_RESULT_BYTES, type Run, RunFailure } from "./run.js";

export async function conformance(run: Run): Promise<void> {
  const [word, rest] = cut(run.text);
  switch (word) {
    case "ok":
      return run.message(rest);
    case "streamed":
      for (const one of rest.split(" ")) await run.delta(one);
      return run.message(rest.replaceAll(" ", ""));
    case "empty":
      return;
    case "fail":
      await run.delta("about to fail");
      throw new RunFailure("harness.cli_missing", "the program is not installed");
    case "raises":
      throw new TypeError("raised on purpose");
    case "flood":
      for (let number = 0; number < Number(rest); number++) await run.delta(`${number} `);
      return;
    case "history": {
      const before = run.start.context?.context?.latest_cursor ?? "";
      const answer = await run.call({ page_history: { before, limit: Number(rest) } });
      return run.message((answer.page_history?.items ?? []).map((item) => item.content).join("|"));
    }
    case "not_granted":
      await run.call({ search_history: { query: "anything" } });
      return;
    case "about":
      return run.message(String(process.pid));
    case "oversize":
      return run.delta("x".repeat(MAX_RESULT_BYTES + 1));
    case "hang":
    case "stubborn":
    case "crash":
      return waiting(run, word);
    default:
      return misbehave(run, word);
  }
}

function cut(text: string): [string, string] {
  const space = text.indexOf(" ");
  return space < 0 ? [text, ""] : [text.slice(0, space), text.slice(space + 1)];
}

async function waiting(run: Run, word: string): Promise<void> {
  await run.delta("waiting");
  await run.flush();
  if (word === "crash") process.kill(process.pid, "SIGKILL");
  const never = new Promise<void>(() => {});
  await (word === "hang" ? run.orStopped(never) : never);
}

/** Goes around the checks of Run: this is what a host must bear. */
async function misbehave(run: Run, word: string): Promise<void> {
  const message = { role: "MESSAGE_ROLE_ASSISTANT", parts: [{ text: { text: "done" } }] };
  const done: Result = { sequence: 1, run_completed: { finish_reason: "FINISH_REASON_STOP", message: { message } } };
  const progress: Result = { sequence: 1, progress: { text: "at work" } };
  switch (word) {
    case "no_terminal":
      return raw(run, progress);
    case "after_terminal":
      return raw(run, done, { ...progress, sequence: 2 });
    case "wrong_sequence":
      return raw(run, { ...done, sequence: 7 });
    case "wrong_run":
      return raw(run, { ...progress, run_id: "run_of_another" }, { ...done, run_id: "run_of_another", sequence: 2 });
    case "unknown_kind":
      // A result with the sequence 1 and a kind with the number 99, as a later version of the contract may have.
      run.done = true;
      return run.write({
        frames: [
          Uint8Array.from([0x0a, 0x08, 0x10, 0x01, 0x9a, 0x06, 0x03, 0x6e, 0x65, 0x77]),
          encodeFrame({ result: { ...done, sequence: 2 } }),
        ],
      });
    case "raw_oversize":
      return raw(run, { sequence: 1, message_delta: { text: "x".repeat(MAX_RESULT_BYTES + 1) } });
    case "malformed":
      // A field whose length never ends.
      run.done = true;
      return run.write({ frames: [Uint8Array.from([0x0a, 0xff, 0xff, 0xff])] });
    case "call_after_end":
      run.done = true;
      return run.write({
        frames: [encodeFrame({ result: done }), encodeFrame({ call: { call_id: 1, page_history: {} } })],
      });
    default:
      throw new RunFailure("runner.error", `there is no behaviour ${word}`);
  }
}

/** Says results as they are, and nothing after them. */
async function raw(run: Run, ...results: Result[]): Promise<void> {
  run.done = true;
  await run.write({ frames: results.map((result) => encodeFrame({ result })) });
}
