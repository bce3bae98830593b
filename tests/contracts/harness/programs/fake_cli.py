"""A program that behaves as a message says, in the words of the harness that it is started for.

`fake_cli.py MARKER VENDOR …`: the vendor is `claude`, `codex`, `acp` or `plain`. The first word of standard
input is what it does, the rest what it says. MARKER stands in the command line of whatever it starts.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

MARKER, VENDOR, ARGUMENTS = sys.argv[1], sys.argv[2], sys.argv[3:]
SESSION = "0199a213-81c0-7800-8aa1-bbab2a035a53"


def line(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def begin() -> None:
    if VENDOR == "claude":
        line(type="system", subtype="init", session_id=SESSION, something_new={"a": 1})
    elif VENDOR == "codex":
        line(type="thread.started", thread_id=SESSION)
        line(type="turn.started")


def update(**fields: object) -> None:
    line(jsonrpc="2.0", method="session/update", params={"sessionId": SESSION, "update": fields})


def listen() -> str:
    """Answers the requests of a client until it prompts, and returns what it says."""
    for text in sys.stdin:
        request = json.loads(text)
        result: dict[str, object] = {}
        match request["method"]:
            case "initialize":
                result = {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}
            case "session/new":
                SERVERS.extend(request["params"]["mcpServers"])
                result = {"sessionId": SESSION}
            case "session/load":
                ARGUMENTS.append(request["params"]["sessionId"])
                update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "of an earlier time"})
            case "session/prompt":
                PROMPT.append(request["id"])
                return str(request["params"]["prompt"][0]["text"])
        line(jsonrpc="2.0", id=request["id"], result=result)
    sys.exit(0)


PROMPT: list[int] = []
PROMPTED: list[str] = []
SERVERS: list[dict[str, object]] = []
CONFIGURED = "mcp_servers.portway.url="


def say(*pieces: str) -> None:
    """An answer in pieces, and its end."""
    whole = "".join(pieces)
    if VENDOR == "acp":
        for piece in pieces:
            update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": piece})
        end_turn()
        return
    if VENDOR == "claude":
        for piece in pieces:
            delta = {"type": "text_delta", "text": piece}
            line(type="stream_event", event={"type": "content_block_delta", "delta": delta}, session_id=SESSION)
        message = {"role": "assistant", "content": [{"type": "text", "text": whole}]}
        line(type="assistant", message=message, session_id=SESSION)
        line(type="result", subtype="success", is_error=False, result=whole, session_id=SESSION, usage={})
    elif VENDOR == "codex":
        line(type="item.completed", item={"id": "item_0", "type": "agent_message", "text": whole})
        line(type="turn.completed", usage={"input_tokens": 1, "output_tokens": 1})
    else:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()


def end_turn() -> None:
    line(jsonrpc="2.0", id=PROMPT[0], result={"stopReason": "end_turn"})
    sys.stdin.read()


def child(own_session: bool) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    subprocess.Popen([sys.executable, "-c", code, MARKER], start_new_session=own_session)


def tool(_said: str) -> None:
    if VENDOR == "claude":
        use = {"type": "tool_use", "id": "call_1", "name": "Read", "input": {"file_path": "a.txt"}}
        line(type="assistant", message={"role": "assistant", "content": [use]}, session_id=SESSION)
        done = {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "inside"}]}
        line(type="user", message={"role": "user", "content": [done]}, session_id=SESSION)
    elif VENDOR == "codex":
        item: dict[str, object] = {
            "id": "item_1",
            "type": "command_execution",
            "command": "cat a.txt",
            "status": "in_progress",
        }
        line(type="item.started", item=item)
        ended: dict[str, object] = {**item, "aggregated_output": "inside", "exit_code": 0, "status": "completed"}
        line(type="item.completed", item=ended)
    elif VENDOR == "acp":
        update(sessionUpdate="tool_call", toolCallId="call_1", title="Read", status="pending", rawInput={"path": "a"})
        content = [{"type": "content", "content": {"type": "text", "text": "inside"}}]
        update(sessionUpdate="tool_call_update", toolCallId="call_1", status="completed", content=content)
    say("after the tool")


FOREST = """
import os, signal, sys, time
kind, ready = sys.argv[2], int(sys.argv[3])
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
if kind in ("session", "daemon"):
    os.setsid()
if kind in ("forked", "daemon") and os.fork():
    os._exit(0)
if kind == "daemon":
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for one in range(3):
        os.dup2(nothing, one)
if kind == "group":
    os.setpgid(0, 0)
os.write(ready, f"{os.getpid()}\\n".encode())
os.close(ready)
time.sleep(3600)
"""


def forest(_said: str) -> None:
    """Children that are hard to find and hard to end; it is as stubborn itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    planted()
    # Says to whoever looks at command lines that all of them are there.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", MARKER, "all-planted"])
    time.sleep(3600)


def forest_done(_said: str) -> None:
    """Says how many of them are alive, and ends well."""
    said = 0
    for pid in planted():
        os.kill(pid, 0)
        said += 1
    say(str(said))


def planted() -> list[int]:
    """Ids of the children, each of which has done what makes it hard to find."""
    ready, say_ready = os.pipe()
    for kind in ("plain", "session", "forked", "daemon", "group"):
        command = [sys.executable, "-c", FOREST, MARKER, kind, str(say_ready)]
        subprocess.Popen(command, pass_fds=(say_ready,))
    os.close(say_ready)
    with open(ready, "rb") as lines:
        return [int(one) for one in lines]


def slow(_said: str) -> None:
    child(own_session=False)
    print("about to be slow", file=sys.stderr, flush=True)
    time.sleep(3600)


def stubborn(_said: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child(own_session=True)
    time.sleep(3600)


def children(_said: str) -> None:
    child(own_session=False)
    child(own_session=True)
    say("left some behind")


def huge(_said: str) -> None:
    sys.stdout.write("x" * (10 * 1024 * 1024) + "\n")
    sys.stdout.flush()
    time.sleep(3600)


def exit3(_said: str) -> None:
    print("it failed with sk-abcdefghijklmnop1234 as its key", file=sys.stderr)
    sys.exit(3)


def noise(_said: str) -> None:
    sys.stderr.write("n" * 5_000_000)
    say("after much noise")


def environment(_said: str) -> None:
    with open("/proc/self/environ", "rb") as file:
        whole = file.read().decode(errors="replace")
    say(json.dumps({"env": sorted(os.environ), "home": os.environ["HOME"], "cwd": os.getcwd(), "whole": whole}))


def received(_said: str) -> None:
    """Says of each file of the message what it is, by the path that it is told."""
    with open(os.environ["AGENT_CONTEXT"], encoding="utf-8") as file:
        attachments = json.load(file)["input"].get("attachments", [])
    told = []
    for one in attachments:
        with open(one["path"], "rb") as file:
            data = file.read()
        told.append([os.path.basename(one["path"]), len(data), hashlib.sha256(data).hexdigest()])
        told[-1].append(os.path.dirname(one["path"]) == os.path.dirname(os.environ["AGENT_CONTEXT"]) + "/files")
    say(json.dumps({"files": told, "prompt": PROMPTED[0]}))


def make(_said: str) -> None:
    """Leaves files for people, and what is none."""
    outbox = os.environ["AGENT_OUTBOX"]
    with open(f"{outbox}/report.txt", "w", encoding="utf-8") as file:
        file.write("made by the program")
    os.makedirs(f"{outbox}/more")
    with open(f"{outbox}/more/-deep.csv", "w", encoding="utf-8") as file:
        file.write("a,b")
    with open(f"{outbox}/.hidden", "w", encoding="utf-8") as file:
        file.write("not shown")
    os.symlink("/etc/hostname", f"{outbox}/link.txt")
    os.symlink("/etc", f"{outbox}/folder")
    os.mkfifo(f"{outbox}/pipe.txt")
    say("made")


def ask(_said: str) -> None:
    """Asks for permission, as agents of the protocol do, and says what was chosen."""
    offered = [("allow_always", "always"), ("allow_once", "once"), ("reject_once", "no")]
    call = {
        "toolCallId": "call_9",
        "title": "Remove everything",
        "kind": "execute",
        "rawInput": {"command": "rm -rf /srv", "why": "x" * 20_000},
    }
    options = [{"kind": kind, "optionId": name, "name": name} for kind, name in offered]
    line(
        jsonrpc="2.0",
        id=77,
        method="session/request_permission",
        params={"sessionId": SESSION, "toolCall": call, "options": options},
    )
    for text in sys.stdin:
        answer = json.loads(text)
        if answer.get("id") == 77:
            say(json.dumps(answer["result"]["outcome"]))
            return


def after(said: str) -> None:
    """An answer, and more after it."""
    if VENDOR == "acp":
        line(jsonrpc="2.0", id=999, result={"stopReason": "end_turn"})
    if VENDOR == "plain":
        say(said)
        return
    end = sys.stdin
    if VENDOR == "acp":
        update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": said})
        line(jsonrpc="2.0", id=PROMPT[0], result={"stopReason": "end_turn"})
        update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "too late"})
        end.read()
        return
    say(said)
    say("too late")


def unknown(said: str) -> None:
    """Lines of a version to come."""
    if VENDOR == "acp":
        update(sessionUpdate="brand_new", content=[1, 2])
        line(jsonrpc="2.0", method="brand/new", params={})
    elif VENDOR != "plain":
        line(type="brand.new", content={"a": [1]})
        line(type=7)
        line(brand="new")
    say(said)


def login(_said: str) -> None:
    if VENDOR == "claude":
        line(type="result", subtype="success", is_error=True, result="Invalid API key · Please run /login")
    elif VENDOR == "codex":
        line(type="turn.failed", error={"message": "unexpected status 401 Unauthorized: no key"})
    elif VENDOR == "acp":
        line(jsonrpc="2.0", id=PROMPT[0], error={"code": -32000, "message": "Authentication required"})
        sys.stdin.read()
    else:
        print("Not logged in", file=sys.stderr)
    sys.exit(1)


def binary(_said: str) -> None:
    sys.stdout.buffer.write(bytes(range(256)) * 20 + b"\n")
    sys.stdout.flush()


def no_result(_said: str) -> None:
    """Says something, and ends without saying that this was all."""
    if VENDOR == "claude":
        message = {"role": "assistant", "content": [{"type": "text", "text": "begun"}]}
        line(type="assistant", message=message, session_id=SESSION)
    elif VENDOR == "codex":
        line(type="item.completed", item={"id": "item_0", "type": "agent_message", "text": "begun"})
    elif VENDOR == "acp":
        update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "begun"})
    else:
        say("begun")


def context(_said: str) -> None:
    with open(os.environ["AGENT_CONTEXT"], encoding="utf-8") as file:
        say(file.read())


def refuse_resume(said: str) -> None:
    if "--resume" in ARGUMENTS or "resume" in ARGUMENTS:
        print("No conversation found with session ID; no rollout found for thread", file=sys.stderr)
        sys.exit(1)
    begin()
    say(said)


def over_http(url: str, headers: dict[str, str], messages: list[dict[str, object]]) -> str:
    """The last answer of an MCP server."""
    known = {"content-type": "application/json", "accept": "application/json, text/event-stream", **headers}
    body = b""
    for message in messages:
        asked = urllib.request.Request(url, json.dumps(message).encode(), known)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked) as answer:
            known["mcp-session-id"] = answer.headers.get("mcp-session-id") or known.get("mcp-session-id", "")
            body = answer.read() or body
    return body.decode()


def over_streams(server: dict[str, object], messages: list[dict[str, object]]) -> str:
    command, arguments = server["command"], server["args"]
    assert isinstance(command, str) and isinstance(arguments, list)
    program = subprocess.Popen([command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said, _ = program.communicate("".join(json.dumps(one) + "\n" for one in messages))
    return said.splitlines()[-1]


def bridge(_said: str) -> None:
    """Asks the run's MCP bridge what the run is about, as this harness finds it, and says what it answered."""
    about = {"name": "fake", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about}
    messages: list[dict[str, object]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "event", "arguments": {}}},
    ]
    if VENDOR == "acp":
        say(over_streams(SERVERS[0], messages))
        return
    if VENDOR == "codex":
        url = next(json.loads(one[len(CONFIGURED) :]) for one in ARGUMENTS if one.startswith(CONFIGURED))
        headers = {"Authorization": "Bearer " + os.environ["PORTWAY_BRIDGE_TOKEN"]}
    else:
        file = ARGUMENTS[ARGUMENTS.index("--mcp-config") + 1] if VENDOR == "claude" else os.environ["AGENT_MCP_CONFIG"]
        with open(file, encoding="utf-8") as opened:
            assert os.fstat(opened.fileno()).st_mode & 0o777 == 0o600
            server = json.load(opened)["mcpServers"]["portway"]
        url, headers = server["url"], server["headers"]
    say(over_http(url, headers, messages))


SILENT: dict[str, Callable[[str], object]] = {
    "empty": lambda _said: end_turn() if VENDOR == "acp" else None,
    "badjson": lambda _said: print("this is {no JSON", flush=True),
    "binary": binary,
    "half": lambda _said: print('{"type": "assi', end="", flush=True),
    "huge": huge,
    "refuse_resume": refuse_resume,
}
BEGUN: dict[str, Callable[[str], object]] = {
    "ok": lambda said: say(said),
    "streamed": lambda said: say(*(f"{one} " for one in said.split())),
    "tool": tool,
    "slow": slow,
    "forest": forest,
    "forest_done": forest_done,
    "stubborn": stubborn,
    "children": children,
    "exit3": exit3,
    "crash": lambda _said: os.kill(os.getpid(), signal.SIGKILL),
    "noise": noise,
    "environment": environment,
    "arguments": lambda _said: say(json.dumps(ARGUMENTS)),
    "context": context,
    "received": received,
    "make": make,
    "ask": ask,
    "after": after,
    "unknown": unknown,
    "login": login,
    "no_result": no_result,
    "terminated": lambda _said: os.kill(os.getpid(), signal.SIGTERM),
    "bridge": bridge,
}


def main() -> None:
    PROMPTED.append(listen() if VENDOR == "acp" else sys.stdin.read())
    word, _, said = PROMPTED[0].partition(" ")
    if word in SILENT:
        SILENT[word](said)
        return
    begin()
    BEGUN[word](said)


main()
