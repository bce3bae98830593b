"""Mistakes that people make: each is answered by a line that says what is wrong, where, and what to do."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from portway.clients.host import Portway
from portway.rpc.errors import (
    Conflict,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    WrongState,
)
from portway.v1 import agent_pb2, binding_pb2, status_pb2
from portway.v1.status_pb2_grpc import StatusServiceStub
from tests.e2e.stack import clean_environment, command, started


async def test_wrong_requests_to_a_running_host(tmp_path: Path) -> None:
    async with started(tmp_path) as stack, stack.client() as host:
        with pytest.raises(NotFound, match="nobody"):
            await host.send("hello", agent_id="nobody")
        with pytest.raises(PayloadTooLarge, match=r"20 MiB"):
            await host.artifacts.create(b"x" * (21 * 1024 * 1024), name="big.bin")
        async with Portway(stack.host_address, token="pw_admin_" + "0" * 32 + "_" + "0" * 64) as stranger:
            with pytest.raises(NotAuthenticated, match="portway tokens create"):
                await stranger.status()
        async with grpc.aio.insecure_channel(stack.host_address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await StatusServiceStub(channel).GetStatus(status_pb2.GetStatusRequest())
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        # The text was not lost with any of it, and the host still answers.
        assert "hello" in (await stack.portway("send", "hello again", "--wait")).out


async def test_no_binding_and_two_equal_bindings(tmp_path: Path) -> None:
    async with started(tmp_path) as stack, stack.client() as host:
        page = await host.bindings.ListBindings(binding_pb2.ListBindingsRequest())
        (first,) = page.bindings
        twin = binding_pb2.Binding(scope=binding_pb2.BINDING_SCOPE_GLOBAL, agent_id="assistant")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await host.bindings.CreateBinding(binding_pb2.CreateBindingRequest(binding=twin))
        assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
        assert first.binding_id in (refused.value.details() or "")
        await host.bindings.DeleteBinding(binding_pb2.DeleteBindingRequest(binding_id=first.binding_id))
        with pytest.raises(WrongState, match="binding") as unbound:
            await host.send("hello")
        assert str(unbound.value.reason) == "NO_BINDING"
        outcome = await stack.portway("send", "hello")
        assert outcome.code == 1
        assert "portway bindings create" in outcome.err


async def test_a_configuration_of_the_runner_that_does_not_fit_names_the_field(tmp_path: Path) -> None:
    async with started(tmp_path) as stack, stack.client() as host:
        agent = (await host.agents.GetAgent(agent_pb2.GetAgentRequest(agent_id="assistant"))).agent
        agent.agent_id, agent.name = "", "wrong"
        agent.config.update({"no-such-field": 1})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await host.agents.CreateAgent(agent_pb2.CreateAgentRequest(agent=agent))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "no-such-field" in (refused.value.details() or "")
        with pytest.raises(Conflict):
            await host.send("a", idempotency_key="one")
            await host.send("b", idempotency_key="one")


async def test_a_broken_plugin_is_shown_and_hides_no_other(tmp_path: Path) -> None:
    broken = tmp_path / "plugins" / "broken"
    broken.mkdir(parents=True)
    (broken / "manifest.yaml").write_text("author: me\nname: broken\nversion: [not, a, version]\n")
    config = f"runtime:\n  plugins: [{json.dumps(str(tmp_path / 'plugins'))}]\n"
    async with started(tmp_path, config=config) as stack:
        listed = await stack.portway("plugin", "list")
        assert "portway/local-agent" in listed.out
        assert "manifest.yaml" in listed.err and "version" in listed.err
        assert (await stack.portway("send", "hello", "--wait")).code == 0


def up(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`portway up` that is expected to end by itself."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "portway.clients.cli.main", "up", "--data", str(folder / "data")),
            *("--port", "0", "--web-port", "0", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment() | {"XDG_STATE_HOME": str(folder / "state")} | environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("hots:\n  listen: x\n", "unknown section `hots`; did you mean `host`?"),
        ("host:\n  lissten: x\n", "unknown key `lissten`; did you mean `listen`?"),
        ("models:\n  defualt: demo\n", "unknown key `defualt`; did you mean `default`?"),
        ("box:\n  max_sesions: 4\n", "unknown key `max_sesions`; did you mean `max_sessions`?"),
        ("host: {listen: [\n", "is not valid YAML"),
        ("agents:\n  - {agent_id: a, runner_id: 'plugin:x/y/z', nmae: n}\n", "nmae"),
    ],
)
def test_a_configuration_with_a_typing_error_is_refused_with_a_suggestion(
    tmp_path: Path, config: str, said: str
) -> None:
    path = tmp_path / "portway.yaml"
    path.write_text(config)
    ended = up(tmp_path, "--config", str(path))
    assert ended.returncode == 78, ended.stderr
    assert said in ended.stderr
    assert str(path) in ended.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = up(tmp_path, "--port", port)
    assert ended.returncode == 1, ended.stderr
    assert port in ended.stderr
    assert "use" in ended.stderr


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # A file where the folder should be: refused for root too, unlike a folder without write permission.
    (tmp_path / "data").write_text("")
    ended = up(tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert str(tmp_path / "data") in ended.stderr
    assert "--data" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a read-only folder needs root")
def test_a_read_only_data_folder_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(data)], check=True)
    try:
        ended = up(tmp_path)
    finally:
        subprocess.run(["umount", str(data)], check=True)
    assert ended.returncode == 1, ended.stderr
    assert str(data) in ended.stderr
    assert "Read-only" in ended.stderr


async def test_a_second_start_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        second = await command(clean_environment(), "up", "--data", str(stack.data), "--port", "0", "--web-port", "0")
        assert second.code == 1
        assert "already runs" in second.err
        assert (await stack.portway("agents", "list")).code == 0
