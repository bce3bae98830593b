// A plugin for Portway in TypeScript. The runtime starts it with a Unix socket to serve, and is its only client.
//
// echo.ts is the runner: begin there. run.ts is one run as a runner sees it, worker.ts the service that the runtime
// calls, contract.ts the messages, and conformance.ts what `portway plugin test` asks for.
import { readFileSync } from "node:fs";

import { conformance } from "./conformance.js";
import { echo } from "./echo.js";
import { serve } from "./worker.js";

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; a plugin is started by Portway`);
  return value;
}

await serve({
  socket: setting("PORTWAY_SOCKET"),
  cookie: readFileSync(setting("PORTWAY_COOKIE_FILE"), "utf8"),
  plugin: setting("PORTWAY_PLUGIN"),
  runners: { default: echo, conformance },
});
