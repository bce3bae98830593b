"""The runner of n8n against n8n itself."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from portway.runtime.kit.host_end import HostEnd
from tests.contracts.service.conftest import VENDORS, Bench, Subject
from tests.fakes.services.api import KEY
from tests.fakes.services.n8n import FakeN8n
from tests.peers.npm import PeerMissing
from tests.peers.real_n8n import RealN8n, node, start_n8n

pytestmark = [pytest.mark.heavy, pytest.mark.asyncio(loop_scope="module")]

ECHO = "={{ { output: 'echo: ' + $json.body.chatInput, headers: $json.headers, body: $json.body } }}"
AUTHS: dict[str, dict[str, Any]] = {
    "basic": {"auth": "basic", "username": "someone", "password": KEY},
    "header": {"auth": "header", "header_name": "X-Portway", "header_value": KEY},
    "jwt": {"auth": "jwt", "jwt_secret": KEY, "jwt_algorithm": "HS384"},
}


def webhook(path: str, mode: str = "responseNode", **more: Any) -> dict[str, Any]:
    credentials = {"credentials": more.pop("credentials")} if "credentials" in more else {}
    parameters = {"httpMethod": "POST", "path": path, "responseMode": mode, "options": {}, **more}
    return node("Webhook", "n8n-nodes-base.webhook", 2.1, parameters, webhookId=path, **credentials)


def respond(**parameters: Any) -> dict[str, Any]:
    return node("Respond", "n8n-nodes-base.respondToWebhook", 1.5, {"options": {}, **parameters})


def fields(**values: str) -> dict[str, Any]:
    given = [{"id": name, "name": name, "value": value, "type": "string"} for name, value in values.items()]
    return node("Fields", "n8n-nodes-base.set", 3.4, {"assignments": {"assignments": given}, "options": {}})


async def furnish(n8n: RealN8n) -> None:
    echo = respond(respondWith="json", responseBody=ECHO)
    await n8n.publish("plain", webhook("plain"), echo)
    spoken = {"respondWith": "text", "responseBody": "={{ 'echo: ' + $json.body.chatInput }}"}
    await n8n.publish("stream", webhook("stream", "streaming"), respond(**spoken, options={"enableStreaming": True}))
    await n8n.publish("text", webhook("text"), respond(**spoken))
    await n8n.publish("last", webhook("last", "lastNode"), fields(output="={{ 'echo: ' + $json.body.chatInput }}"))
    await n8n.publish("started", webhook("started", "onReceived"), fields(output="nobody sees this"))
    await n8n.publish("file", webhook("file"), respond(respondWith="binary", responseDataSource="automatically"))
    stops = node("Stop", "n8n-nodes-base.stopAndError", 1, {"errorMessage": "the stock is empty"})
    await n8n.publish("stops", webhook("stops", "lastNode"), stops)
    waits = node("Wait", "n8n-nodes-base.wait", 1.1, {"resume": "timeInterval", "amount": 1, "unit": "hours"})
    await n8n.publish("waits", webhook("waits"), waits, respond(respondWith="text", responseBody="late"))
    trigger = {"public": True, "options": {"responseMode": "lastNode"}}
    chat = node("Chat", "@n8n/n8n-nodes-langchain.chatTrigger", 1.3, trigger, webhookId="trigger")
    await n8n.publish("trigger", chat, fields(output="={{ 'echo: ' + $json.chatInput + ' in ' + $json.sessionId }}"))
    kinds = {
        "basic": ("basicAuth", "httpBasicAuth", {"user": "someone", "password": KEY}),
        "header": ("headerAuth", "httpHeaderAuth", {"name": "X-Portway", "value": KEY}),
        "jwt": ("jwtAuth", "jwtAuth", {"keyType": "passphrase", "secret": KEY, "algorithm": "HS384"}),
    }
    for auth, (setting, kind, data) in kinds.items():
        credentials = await n8n.credential(kind, **data)
        await n8n.publish(auth, webhook(auth, authentication=setting, credentials=credentials), echo)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealN8n]:
    try:
        async with start_n8n(tmp_path_factory.mktemp("n8n")) as n8n:
            await furnish(n8n)
            yield n8n
    except PeerMissing as missing:
        pytest.skip(f"no real n8n here: {missing}")


@pytest_asyncio.fixture(loop_scope="module")
async def subject(bench: Bench, real: RealN8n) -> Subject:
    fake = FakeN8n(base_url=real.base_url)
    return Subject(VENDORS["n8n"], fake, HostEnd(bench.channel, "plugin:portway/n8n/default"))


def at(real: RealN8n, path: str, **more: Any) -> dict[str, Any]:
    return {"webhook_url": real.webhook(path), "auth": "none", **more}


@pytest.mark.parametrize("path", ["plain", "text", "last", "stream"])
async def test_it_answers_however_the_workflow_responds(subject: Subject, real: RealN8n, path: str) -> None:
    run = await subject.ask(**at(real, path))
    assert run.kinds[-2:] == ["message_completed", "run_completed"], run.results
    assert run.message == "echo: hello there"


@pytest.mark.parametrize("auth", AUTHS)
async def test_it_proves_who_it_is_and_what_proves_it_is_never_told(subject: Subject, real: RealN8n, auth: str) -> None:
    url = {"webhook_url": real.webhook(auth)}
    assert (await subject.ask(**AUTHS[auth], **url)).message == "echo: hello there"
    # A workflow that answers with the request that it got.
    told = await subject.ask(**AUTHS[auth], **url, output_key="headers")
    assert "***" in told.message and "user-agent" in told.message, told.results
    assert KEY not in str(told.results)
    wrong = {name: "another-key-000000" if value == KEY else value for name, value in AUTHS[auth].items()}
    refused = await subject.ask(**wrong, **url)
    assert refused.error.code == "service.auth", refused.error
    assert (await subject.ask(**at(real, auth))).error.code == "service.auth"


async def test_a_conversation_has_one_session_and_another_person_is_told_apart(subject: Subject, real: RealN8n) -> None:
    sessions = [(await subject.ask(**at(real, "plain", output_key="body.sessionId"))).message for _ in range(2)]
    assert sessions[0] == sessions[1]
    first = (await subject.ask(**at(real, "plain", output_key="body.user"))).message
    second = (await subject.ask(actor="ben", **at(real, "plain", output_key="body.user"))).message
    assert first != second


async def test_a_chat_trigger_answers(subject: Subject, real: RealN8n) -> None:
    run = await subject.ask(**at(real, "trigger/chat"))
    assert run.message.startswith("echo: hello there in portway-"), run.results


async def test_files_go_there_and_come_back(subject: Subject, real: RealN8n) -> None:
    data = bytes(range(256)) * 40
    run = await subject.ask(about=subject.with_file("cat.png", data), **at(real, "file", file_key="data"))
    assert run.kinds[-2:] == ["message_completed", "run_completed"], run.results
    (part,) = run.results[-2].message_completed.message.parts
    kept, stored = subject.things.artifacts[part.image.artifact.artifact_id]
    assert (kept.mime_type, stored) == ("image/png", data)


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ("nowhere", "service.not_found", "not registered"),
        ("started", "service.bad_output", "output_key"),
        ("stops", "service.failed", "workflow"),
    ],
)
async def test_what_goes_wrong_there_is_told(subject: Subject, real: RealN8n, path: str, code: str, told: str) -> None:
    run = await subject.ask(**at(real, path))
    assert (run.error.code, told in run.error.message) == (code, True), run.error


async def test_a_workflow_that_takes_long_ends_by_its_times_and_by_a_cancel(subject: Subject, real: RealN8n) -> None:
    run = await subject.ask(**at(real, "waits", first_byte_seconds=0.5))
    assert run.error.code == "service.timeout"
    async with subject.host.run("hello", subject.runner_id, **subject.options(**at(real, "waits"))) as waiting:
        await waiting.cancel()
        await waiting.until_end()
    assert waiting.error.code == "cancelled"
