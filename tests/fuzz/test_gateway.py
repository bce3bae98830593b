"""The model gateway over HTTP: JSON that is nearly right, bytes that are none, with the token of a run."""

import asyncio
import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import httpx

from portway.server.agents.types import ResourcePolicy
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.fuzz.attack import seconds, seed
from tests.fuzz.values import ODD_TEXTS
from tests.rpc.logs import Logs
from tests.server.gateway.programs import TOOL, http_of
from tests.server.hosting import hosted
from tests.server.playing import played

USUAL = 2.0
_CALL = {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": "{}"}}
_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
]
_USE = {"type": "tool_use", "id": "t1", "name": "exec", "input": {"command": "ls"}}
_TURNS = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, _USE]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "done"}]},
]
_INPUT = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
    {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "x"},
    {"type": "function_call", "call_id": "c1", "name": "exec", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "done"},
]
BODIES: dict[str, dict[str, Any]] = {
    "/openai/v1/chat/completions": {
        "model": "demo",
        "messages": _CHAT,
        "tools": [{"type": "function", "function": {"name": "exec", "parameters": TOOL}}],
        "temperature": 1,
        "max_tokens": 100,
        "stream": False,
    },
    "/openai/v1/responses": {
        "model": "demo",
        "input": _INPUT,
        "tools": [{"type": "function", "name": "exec", "parameters": TOOL}],
        "reasoning": {"effort": "low"},
        "stream": True,
    },
    "/openai/v1/embeddings": {"model": "demo-embed", "input": ["a", "b"], "encoding_format": "float"},
    "/anthropic/v1/messages": {
        "model": "demo",
        "messages": _TURNS,
        "max_tokens": 100,
        "system": "Be brief.",
        "tools": [{"name": "exec", "input_schema": TOOL}],
        "tool_choice": {"type": "auto"},
        "stream": True,
    },
    "/anthropic/v1/messages/count_tokens": {"model": "demo", "messages": _TURNS},
}
_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    2**70,
    [],
    {},
    [[]],
    [None],
    {"type": "text"},
    {"type": []},
    *ODD_TEXTS,
)


def varied(random: Random, value: Any) -> Any:
    """The same with something else in one place."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        name = random.choice(list(value))
        changed = copy.copy(value)
        if random.random() < 0.1:
            del changed[name]
        else:
            changed[name] = varied(random, value[name])
        return changed
    if isinstance(value, list) and value and random.random() < 0.8:
        at = random.randrange(len(value))
        return [*value[:at], varied(random, value[at]), *value[at + (random.random() < 0.9) :]]
    return random.choice(_ODD)


def body_of(random: Random, path: str) -> bytes:
    body: Any = BODIES[path]
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        body = varied(random, body)
    raw = json.dumps(body).encode()
    match random.randint(0, 20):
        case 0:
            return raw[: random.randrange(len(raw))]
        case 1:
            return raw.replace(b"1", b"NaN", 1)
        case 2:
            return b"[" * 100_000
        case 3:
            return raw.replace(b"hello", b"\xff\xfe\\ud800", 1)
        case 4:
            return raw.replace(b"hello", b"\\ud800\\u0000", 1)
        case _:
            return raw


def complaint(response: httpx.Response, token: str) -> str:
    """What is wrong with an answer; empty: nothing."""
    if response.status_code >= 500:
        return "a bug of the gateway"
    if token in response.text:
        return "the token in an answer"
    if response.status_code >= 400:
        error = response.json().get("error")
        if not isinstance(error, dict) or not error.get("message") or not error.get("type"):
            return "an error that is not of the vendor's shape"
    return ""


async def test_nothing_that_a_program_sends_breaks_the_gateway(tmp_path: Path) -> None:
    number = seed()
    print(f"PORTWAY_FUZZ_SEED={number}")
    random, logs = Random(number), Logs()
    problems: list[str] = []
    codes: dict[int, int] = {}

    async def script(run: FakeRun) -> None:
        end = asyncio.get_running_loop().time() + seconds(USUAL)
        async with http_of(run) as http:
            while asyncio.get_running_loop().time() < end and not problems:
                path = random.choice(list(BODIES))
                raw = body_of(random, path)
                response = await http.post(path, content=raw, headers={"content-type": "application/json"})
                codes[response.status_code] = codes.get(response.status_code, 0) + 1
                if found := complaint(response, run.start.run_token):
                    problems.append(f"{found}: {path} {response.status_code} {response.text[:300]}\n{raw[:1500]!r}")
            for path, body in BODIES.items():
                assert (await http.post(path, json=body)).status_code == 200, path

    async with (
        serve_fake_runtime(FakeRuntime()) as runtime,
        hosted(tmp_path, runtime, http_listen="127.0.0.1:0") as host,
    ):
        await host.set_agent(resource_policy=ResourcePolicy(model_ids=("demo", "demo-embed")))
        await played(host, runtime, script)
    assert not problems, f"PORTWAY_FUZZ_SEED={number}\n" + "\n".join(problems) + logs.text()[-3000:]
    assert codes[200] > 5 and codes[400] > 5, codes
