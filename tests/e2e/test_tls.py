"""All servers over TLS: they find each other, the page its host, and a person all of them; nobody in the clear."""

import json
from pathlib import Path

import pytest

from portway.clients.box import Box
from portway.clients.host import Portway
from portway.clients.runtime import Runtime
from portway.rpc.channel import ClientTls
from portway.rpc.errors import Unavailable
from portway.v1 import status_pb2
from tests.e2e.stack import Stack, command, started
from tests.rpc.test_serving import write_certificate
from tests.sandbox import needs_sandbox


def config(folder: Path) -> str:
    tls = write_certificate(folder)
    server = f"{{certificate: {tls.certificate}, private_key: {tls.private_key}}}"
    client = f"{{ca: {tls.certificate}}}"
    return f"""
host: {{tls: {server}, runtime_tls: {client}, box_tls: {client}}}
runtime: {{tls: {server}}}
box: {{tls: {server}}}
web: {{host_tls: {client}}}
"""


@needs_sandbox
async def test_the_whole_installation_over_tls(tmp_path: Path) -> None:
    async with started(tmp_path, config=config(tmp_path)) as stack:
        ca = tmp_path / "server.pem"
        stack.tls = ClientTls(ca=ca)
        environment = stack.environment() | {"PORTWAY_CA": str(ca)}
        answer = await command(environment, "send", "run: echo over tls", "--wait", "--json")
        assert answer.code == 0, answer.err
        assert "over tls" in str(json.loads(answer.out)["text"])

        tls = ClientTls(ca=ca)
        async with Portway(stack.host_address, token=stack.token, tls=tls) as host:
            parts = (await host.status()).parts
        # A box of a plain user works, without the limits that only root can set.
        works = (status_pb2.PART_STATE_OK, status_pb2.PART_STATE_DEGRADED)
        assert all(part.state in works for part in parts), parts
        async with Box(stack.box_address, token=stack.token, tls=tls) as box:
            assert (await box.status()).available
        await nobody_is_served_in_the_clear(stack)


async def nobody_is_served_in_the_clear(stack: Stack) -> None:
    async with Portway(stack.host_address, token=stack.token) as host:
        with pytest.raises(Unavailable):
            await host.status()
    async with Box(stack.box_address, token=stack.token) as box:
        with pytest.raises(Unavailable):
            await box.status()
    async with Runtime(str(stack.ready["runtime"]), token=stack.token) as runtime:
        with pytest.raises(Unavailable):
            await runtime.list_runners()
