// The worker contract, as far as this program uses it. Fields that are not named here are there all the same.
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";

export interface Start {
  runner_id: string;
  credit_bytes?: number;
  context?: {
    run_id?: string;
    input?: { text?: string };
    context?: { latest_cursor?: string };
    runtime?: { deadline?: { seconds?: number; nanos?: number } };
  };
}

export interface Answer {
  call_id: number;
  error?: { code?: number; reason?: string; message?: string };
  page_history?: { items?: { content?: string }[] };
}

export interface InputFrame {
  start?: Start;
  cancel?: { reason?: string };
  answer?: Answer;
  credit?: { bytes?: number };
}

export interface CompletedMessage {
  message_key?: string;
  message: { role: string; parts: { text: { text: string } }[] };
}

export interface Result {
  run_id?: string;
  sequence?: number;
  message_delta?: { message_key?: string; text: string };
  message_completed?: CompletedMessage;
  progress?: { text: string };
  run_completed?: { finish_reason: string; message?: CompletedMessage };
  run_failed?: { error: { code: string; message: string } };
}

export interface Call {
  call_id?: number;
  page_history?: { before?: string; limit?: number };
  search_history?: { query: string };
}

export interface OutputFrame {
  result?: Result;
  call?: Call;
}

export interface InputMessage {
  frames?: InputFrame[];
}

// A message whose frames are serialized already, so that each is measured and encoded once.
export interface OutputMessage {
  frames: Uint8Array[];
}

const folder = fileURLToPath(new URL("./contract", import.meta.url));
const definition = loader.loadSync("portway/v1/worker.proto", {
  includeDirs: [folder],
  keepCase: true,
  longs: Number,
  enums: String,
});

function typeOf(name: string): loader.MessageTypeDefinition<object, object> {
  return definition[name] as loader.MessageTypeDefinition<object, object>;
}

const outputFrame = typeOf("portway.v1.RunOutputFrame");

export function encodeFrame(frame: OutputFrame): Buffer {
  return outputFrame.serialize(frame);
}

const service = definition["portway.v1.WorkerService"] as grpc.ServiceDefinition;

// Frames are put together by hand: `repeated … frames = 1` is a tag and a length before each.
export const workerService: grpc.ServiceDefinition = {
  ...service,
  RunAgent: {
    ...service.RunAgent!,
    responseSerialize: (message: OutputMessage) => {
      const pieces = message.frames.flatMap((frame) => [lengthBefore(frame.length), frame]);
      return Buffer.concat(pieces);
    },
  },
};

function lengthBefore(length: number): Uint8Array {
  const header = [0x0a];
  for (; length > 0x7f; length >>>= 7) header.push((length & 0x7f) | 0x80);
  header.push(length);
  return Uint8Array.from(header);
}
