// The service that the runtime calls.
import { timingSafeEqual } from "node:crypto";

import * as grpc from "@grpc/grpc-js";

import { type InputMessage, type OutputMessage, workerService } from "./contract.js";
import { Run } from "./run.js";

/** The version of the worker contract that this program speaks. */
const PROTOCOL_VERSION = 1;

/** Answers one run. Returning completes it, throwing fails it. */
export type Runner = (run: Run) => Promise<void>;

export interface Settings {
  socket: string;
  cookie: string;
  plugin: string;
  runners: Record<string, Runner>;
}

type RunStream = grpc.ServerDuplexStream<InputMessage, OutputMessage>;

/** Serves until the plugin is drained or told to end. */
export async function serve(settings: Settings): Promise<void> {
  const server = new grpc.Server({ "grpc.max_receive_message_length": 8 * 1024 * 1024 });
  const runs = new Set<Run>();
  let draining = false;

  const stop = () => {
    draining = true;
    server.tryShutdown(() => process.exit(0));
  };

  server.addService(workerService, {
    Handshake: unary(settings.cookie, (request: { protocol_versions?: number[] }) => {
      if (!request.protocol_versions?.includes(PROTOCOL_VERSION)) {
        throw refusal(grpc.status.FAILED_PRECONDITION, `this plugin speaks version ${PROTOCOL_VERSION} of the contract`);
      }
      const components = Object.keys(settings.runners).map((name) => ({ kind: "AgentRunner", name }));
      return { protocol_version: PROTOCOL_VERSION, components, sdk: `node ${process.version}` };
    }),
    Ping: unary(settings.cookie, () => ({ run_count: runs.size })),
    DrainWorker: unary(settings.cookie, () => {
      if (!draining) setImmediate(stop);
      return { run_count: runs.size };
    }),
    RunAgent: (stream: RunStream) => {
      if (!isRuntime(stream.metadata, settings.cookie)) return fail(stream, wrongCookie());
      if (draining) return fail(stream, refusal(grpc.status.UNAVAILABLE, "the plugin takes no new runs"));
      converse(stream, settings, runs);
    },
  });

  await new Promise<void>((resolve, reject) => {
    const listening = (error: Error | null) => (error ? reject(error) : resolve());
    server.bindAsync(`unix:${settings.socket}`, grpc.ServerCredentials.createInsecure(), listening);
  });
  process.on("SIGTERM", () => process.exit(0));
}

/** Follows one run from its first frame to its last. */
function converse(stream: RunStream, settings: Settings, runs: Set<Run>): void {
  let run: Run | undefined;
  stream.on("data", (message: InputMessage) => {
    let frames = message.frames ?? [];
    if (!run) {
      const start = frames[0]?.start;
      if (!start) return fail(stream, refusal(grpc.status.INVALID_ARGUMENT, "the first frame of a run is `start`"));
      const prefix = `plugin:${settings.plugin}/`;
      const name = start.runner_id.startsWith(prefix) ? start.runner_id.slice(prefix.length) : "";
      if (!Object.hasOwn(settings.runners, name)) {
        return fail(stream, refusal(grpc.status.NOT_FOUND, `there is no runner ${start.runner_id}`));
      }
      run = new Run(start, (written) => write(stream, written));
      frames = frames.slice(1);
      runs.add(run);
      void play(stream, run, settings.runners[name]!).finally(() => runs.delete(run!));
    }
    for (const frame of frames) run.take(frame);
  });
  stream.on("cancelled", () => run?.stop("cancelled", "the runtime ended the call"));
  stream.on("error", () => run?.stop("cancelled", "the connection broke"));
}

/** The run, and the end of its stream. What a runner throws ends its own run only. */
async function play(stream: RunStream, run: Run, runner: Runner): Promise<void> {
  let error: unknown;
  try {
    await runner(run);
  } catch (thrown) {
    error = thrown ?? new Error("the runner threw nothing");
    // A line that begins so is told apart by run.
    if (!run.signal.aborted) console.error(`\x1e${run.id}\x1f${thrown instanceof Error ? thrown.stack : thrown}`);
  }
  try {
    await run.end(error);
  } catch {
    // The call is over: nobody listens any more.
  }
  stream.end();
}

/** Waits for room where the connection is full: a fast runner is slowed down here. */
async function write(stream: RunStream, message: OutputMessage): Promise<void> {
  if (stream.cancelled || stream.destroyed) throw new Error("the call is over");
  if (stream.write(message)) return;
  await new Promise<void>((resolve) => {
    const go = () => {
      for (const event of ["drain", "close", "cancelled"]) stream.off(event, go);
      resolve();
    };
    for (const event of ["drain", "close", "cancelled"]) stream.on(event, go);
  });
}

function unary<Request>(cookie: string, answer: (request: Request) => object): grpc.handleUnaryCall<Request, object> {
  return (call, done) => {
    try {
      if (!isRuntime(call.metadata, cookie)) throw wrongCookie();
      done(null, answer(call.request));
    } catch (error) {
      done(error as grpc.ServiceError);
    }
  };
}

/** Everybody but the runtime is refused. */
function isRuntime(metadata: grpc.Metadata, cookie: string): boolean {
  const given = Buffer.from(String(metadata.get("authorization")[0] ?? ""));
  const wanted = Buffer.from(`Bearer ${cookie}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function wrongCookie(): Error & Partial<grpc.StatusObject> {
  return refusal(grpc.status.UNAUTHENTICATED, "the cookie is wrong");
}

function refusal(code: grpc.status, details: string): Error & Partial<grpc.StatusObject> {
  return Object.assign(new Error(details), { code, details });
}

function fail(stream: RunStream, error: Error): void {
  stream.emit("error", error);
}
