"""A program over stdio that keeps to the protocol only as far as its first argument says. Without any library."""

import json
import sys

MODE = sys.argv[1]
FLOOD_BYTES = 30_000_000
TOOLS = [{"name": "try", "inputSchema": {"type": "object"}}]


def say(**message: object) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def hear() -> dict:  # type: ignore[type-arg]  # it runs alone, on any Python
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return dict(json.loads(line))


def text(said: object, number: object) -> None:
    say(id=number, result={"content": [{"type": "text", "text": str(said)}]})


def asked_back(method: str, params: object, number: object) -> object:
    """What the host answers to a request of its server."""
    say(id=f"back-{method}", method=method, params=params)
    while True:
        heard = hear()
        if heard.get("id") == f"back-{method}":
            return heard.get("error", {}).get("code", heard.get("result"))


def wait_for_the_cancelling(number: object) -> None:
    sys.stderr.write("waiting\n")
    sys.stderr.flush()
    while (heard := hear()).get("method") != "notifications/cancelled":
        pass
    with open("cancelled", "w") as file:
        file.write("it is me" if heard["params"]["requestId"] == number else "somebody else")


def call(number: object) -> None:
    if MODE == "dies":
        sys.stderr.write("I go\n")
        sys.stderr.flush()
        sys.exit(5)
    if MODE == "half":
        write(json.dumps({"jsonrpc": "2.0", "id": number})[:-5] + "\n")
        text("whole again", number)
    elif MODE == "wrong_id":
        for wrong in (None, "nobody", -1, 10**30, [1], 0.5):
            text("a lie", wrong)
        text("the truth", number)
    elif MODE == "asks":
        sampling = {"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 5}
        elicitation = {"message": "your password?", "requestedSchema": {"type": "object", "properties": {}}}
        answers = {
            "sampling/createMessage": asked_back("sampling/createMessage", sampling, number),
            "elicitation/create": asked_back("elicitation/create", elicitation, number),
            "roots/list": asked_back("roots/list", {}, number),
            "made/up": asked_back("made/up", {}, number),
            "ping": asked_back("ping", {}, number),
        }
        text(json.dumps(answers), number)
    elif MODE == "changes":
        TOOLS.append({"name": "new", "inputSchema": {"type": "object"}})
        say(method="notifications/tools/list_changed")
        text("changed", number)
    elif MODE == "waits":
        wait_for_the_cancelling(number)
    elif MODE == "no_result":
        say(id=number, result={"nothing": True})
    else:
        for said in ("first", "second") if MODE == "twice" else ("fine",):
            text(said, number)


def serve() -> None:
    while True:
        heard = hear()
        method, number = heard.get("method"), heard.get("id")
        if method == "initialize":
            version = heard["params"]["protocolVersion"]
            info = {"name": "hostile", "version": "1"}
            capabilities = {"tools": {"listChanged": True}}
            say(id=number, result={"protocolVersion": version, "capabilities": capabilities, "serverInfo": info})
        elif method == "tools/list":
            say(id=number, result={"tools": TOOLS})
        elif method == "tools/call":
            call(number)
        elif method == "ping":
            say(id=number, result={})
        elif number is not None and method:
            say(id=number, error={"code": -32601, "message": "no such method"})


if MODE == "silent":
    while sys.stdin.readline():
        pass
elif MODE == "lines":
    while True:
        write("this is no message\n" * 1000)
elif MODE == "huge":
    sys.stdin.readline()
    while True:
        write("x" * 1_000_000)
elif MODE == "errors":
    for _ in range(FLOOD_BYTES // 1000):
        sys.stderr.write("e" * 999 + "\n")
if MODE == "names":
    TOOLS += [
        {"name": name, "inputSchema": {"type": "object"}} for name in ("n" * 128, "n" * 129, "", "a b", "a\u202eb")
    ]
if MODE == "many":
    TOOLS += [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(600)]
serve()
