// The official TypeScript client: `node client.mjs SDK_FOLDER http URL TOKEN_FILE` or `… stdio COMMAND…`.
// Says when it has seen how far a call is, then what it saw as one line of JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [sdk, way, ...rest] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${sdk}/dist/esm/client/${path}.js`).href);
const { Client } = await load("index");

async function transport() {
  if (way === "http") {
    const { StreamableHTTPClientTransport } = await load("streamableHttp");
    const headers = { Authorization: `Bearer ${readFileSync(rest[1], "utf8").trim()}` };
    return new StreamableHTTPClientTransport(new URL(rest[0]), { requestInit: { headers } });
  }
  const { StdioClientTransport } = await load("stdio");
  return new StdioClientTransport({ command: rest[0], args: rest.slice(1) });
}

const client = new Client({ name: "test", version: "1" });
await client.connect(await transport());
const progress = [];
const tools = await client.listTools();
const event = await client.callTool({ name: "event", arguments: {} });
const slow = await client.callTool({ name: "tests_tools_slow", arguments: {} }, undefined, {
  onprogress: (one) => progress.push(one.progress) === 3 && console.log("far enough"),
});
const absent = await client.callTool({ name: "tool_call", arguments: { name: "nothing" } });
const stop = new AbortController();
setImmediate(() => stop.abort("enough"));
const cancelled = await client
  .callTool({ name: "tests_tools_hold", arguments: {} }, undefined, { signal: stop.signal })
  .then(() => "", (error) => String(error));
await client.close();
console.log(
  JSON.stringify({
    server: client.getServerVersion().name,
    tools: tools.tools.map((one) => one.name),
    run: event.structuredContent.run_id,
    slow: slow.content[0].text,
    progress,
    absent: absent.content[0].text,
    cancelled,
  }),
);
