// One run: what it was given, and what it may say and ask.
import { type Answer, type Call, type InputFrame, type OutputMessage, type Result, type Start, encodeFrame } from "./contract.js";

const MAX_FRAMES = 64;
const MAX_MESSAGE_BYTES = 256 * 1024;
export const MAX_RESULT_BYTES = 1024 * 1024;

/** Ends a run with a published code. */
export class RunFailure extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

/** Resolves when the message is on its way and there is room for more. */
export type Write = (message: OutputMessage) => Promise<void>;

export class Run {
  readonly id: string;
  /** Aborted by a cancel and by the deadline; its reason is what the run is to fail with. */
  readonly signal: AbortSignal;
  done = false;

  private readonly abort = new AbortController();
  private readonly timer: NodeJS.Timeout | undefined;
  private readonly calls = new Map<number, (answer: Answer) => void>();
  private called = 0;
  private sequence = 0;
  private frames: Uint8Array[] = [];
  private size = 0;
  private allowed: number;
  private more: (() => void) | undefined;

  constructor(readonly start: Start, readonly write: Write) {
    this.id = start.context?.run_id ?? "";
    this.signal = this.abort.signal;
    this.allowed = start.credit_bytes || Infinity;
    const deadline = start.context?.runtime?.deadline;
    if (deadline) {
      const left = (deadline.seconds ?? 0) * 1000 + (deadline.nanos ?? 0) / 1e6 - Date.now();
      // A timer holds at most 24 days.
      const wait = Math.min(Math.max(left, 0), 2 ** 31 - 1);
      this.timer = setTimeout(() => this.stop("runner.timeout", "the run's deadline is over"), wait);
    }
  }

  /** What the person said. */
  get text(): string {
    return this.start.context?.input?.text ?? "";
  }

  /** Says a piece of the answer. Pieces travel together: 64 of them, or what there is with the next flush. */
  async delta(text: string): Promise<void> {
    await this.say({ message_delta: { message_key: "m", text } });
  }

  /** Says the whole answer; it replaces the pieces. */
  async message(text: string): Promise<void> {
    const message = { role: "MESSAGE_ROLE_ASSISTANT", parts: [{ text: { text } }] };
    await this.say({ message_completed: { message_key: "m", message } });
  }

  /** Asks the host something and waits for the answer. What the host refuses is thrown. */
  async call(call: Call): Promise<Answer> {
    const call_id = ++this.called;
    const answered = new Promise<Answer>((resolve) => this.calls.set(call_id, resolve));
    try {
      this.frames.push(encodeFrame({ call: { ...call, call_id } }));
      await this.flush();
      const answer = await this.orStopped(answered);
      if (answer.error) throw new RunFailure("runner.error", `${answer.error.message} (${answer.error.reason})`);
      return answer;
    } finally {
      this.calls.delete(call_id);
    }
  }

  /** Waits; throws at once when the run is to stop. */
  async pause(milliseconds: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
    try {
      await this.orStopped(over);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The promise, or the reason why the run is to stop. */
  async orStopped<T>(promise: Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    let listener = () => {};
    const stopped = new Promise<never>((_, reject) => {
      listener = () => reject(this.signal.reason);
      this.signal.addEventListener("abort", listener);
    });
    try {
      return await Promise.race([promise, stopped]);
    } finally {
      this.signal.removeEventListener("abort", listener);
    }
  }

  /** Sends what was said and did not travel yet. Waits for credit of the host and for the connection. */
  async flush(): Promise<void> {
    if (this.frames.length === 0) return;
    while (this.allowed <= 0) {
      await this.orStopped(new Promise<void>((resolve) => (this.more = resolve)));
    }
    const frames = this.frames;
    this.frames = [];
    this.size = 0;
    this.allowed -= frames.reduce((sum, frame) => sum + frame.length, 0);
    await this.write({ frames });
  }

  /** Takes what the host says. */
  take(frame: InputFrame): void {
    if (frame.cancel) this.stop("cancelled", frame.cancel.reason ?? "the run was cancelled");
    if (frame.answer) this.calls.get(frame.answer.call_id)?.(frame.answer);
    if (frame.credit) {
      this.allowed += frame.credit.bytes ?? 0;
      this.more?.();
    }
  }

  stop(code: string, reason: string): void {
    this.abort.abort(new RunFailure(code, reason));
  }

  /** Says the one terminal result. */
  async end(error?: unknown): Promise<void> {
    clearTimeout(this.timer);
    if (this.done) return;
    if (error === undefined) {
      await this.say({ run_completed: { finish_reason: "FINISH_REASON_STOP" } });
    } else {
      const code = error instanceof RunFailure ? error.code : "runner.error";
      const message = error instanceof Error ? error.message : String(error);
      await this.say({ run_failed: { error: { code, message } } });
    }
    await this.flush();
  }

  private async say(result: Result): Promise<void> {
    const frame = encodeFrame({ result: { ...result, run_id: this.id, sequence: this.sequence + 1 } });
    if (frame.length > MAX_RESULT_BYTES) {
      throw new RunFailure("runner.protocol", "a result is larger than 1 MiB; larger content goes through artifacts");
    }
    if (this.size + frame.length > MAX_MESSAGE_BYTES) await this.flush();
    this.sequence++;
    this.frames.push(frame);
    this.size += frame.length;
    if (this.frames.length >= MAX_FRAMES) await this.flush();
  }
}
