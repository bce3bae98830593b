"""Who made a plugin: signatures are checked, needed where the operator says so, and shown."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import NotPermitted, PortwayError, Reason, Unavailable, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.status import errors_by_meaning
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.runtime.installed.config import InstallingConfig
from portway.v1 import runtime_pb2 as pb
from portway.v1 import runtime_pb2_grpc
from tests.runtime.host_end import HostEnd
from tests.runtime.installed.packs import RUNNER, Stub, install, packed, plugin


@dataclass(frozen=True, slots=True)
class Signer:
    """A key made by the command line, and signatures by it."""

    file: Path
    key_id: str
    public_key: str

    def sign(self, raw: bytes) -> pb.PluginSignature:
        packed = self.file.with_name("signed.zip")
        packed.write_bytes(raw)
        kit("sign", str(packed), "--key", str(self.file))
        written = json.loads(packed.with_name("signed.zip.sig").read_text())
        assert written["key_id"] == self.key_id
        return pb.PluginSignature(key_id=written["key_id"], value=bytes.fromhex(written["signature"]))


def kit(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "portway.runtime.kit", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def signer(folder: Path, name: str) -> Signer:
    folder.mkdir(exist_ok=True)
    said = kit("keygen", str(folder / f"{name}.pem"))
    public = said.rpartition(f"{name}: ")[2].strip().rstrip("}")
    return Signer(folder / f"{name}.pem", said.split()[2].rstrip(";"), public)


@asynccontextmanager
async def runtime_with(config: RuntimeConfig, installing: InstallingConfig) -> AsyncIterator[tuple[Stub, HostEnd]]:
    tokens = {role: mint_token(role.name.lower()).text for role in (Role.RUNTIME, Role.OPERATOR)}
    known = FixedTokens((text, Caller(role, "*", role.name)) for role, text in tokens.items())
    async with (
        run_runtime(replace(config, installing=installing), known) as server,
        open_channel(server.address, token=tokens[Role.RUNTIME]) as channel,
        open_channel(server.address, token=tokens[Role.OPERATOR]) as operator,
    ):
        yield runtime_pb2_grpc.RuntimeServiceStub(operator), HostEnd(channel)


async def refusal(stub: Stub, raw: bytes, signature: pb.PluginSignature | None) -> PortwayError:
    start = pb.InstallPluginStart(signature=signature) if signature else pb.InstallPluginStart()
    with pytest.raises(PortwayError) as caught:
        await install(stub, raw, start)
    return caught.value


async def test_a_signature_must_be_of_a_trusted_key_over_these_bytes(config: RuntimeConfig, tmp_path: Path) -> None:
    one, other = signer(tmp_path / "keys", "one"), signer(tmp_path / "keys", "other")
    first, second = packed(tmp_path, "1.0.0"), packed(tmp_path, "2.0.0")
    trusting = InstallingConfig(trusted_keys={"one": one.public_key}, require_signature=True)
    async with runtime_with(config, trusting) as (stub, _):
        missing = await refusal(stub, first, None)
        assert (type(missing), missing.reason) == (WrongState, Reason.SIGNATURE_MISSING)
        unknown = await refusal(stub, first, other.sign(first))
        assert (type(unknown), unknown.reason) == (NotPermitted, Reason.SIGNATURE_KEY_UNKNOWN)
        assert other.key_id in unknown.message
        for wrong in (one.sign(second).value, bytes(64), b"short", b""):
            bad = await refusal(stub, first, pb.PluginSignature(key_id=one.key_id, value=wrong))
            assert (type(bad), bad.reason) == (NotPermitted, Reason.SIGNATURE_INVALID)
            assert one.key_id in bad.message
        answer = await install(stub, first, pb.InstallPluginStart(signature=one.sign(first)))
        (version,) = answer.plugin.versions
        assert (version.signature_state, version.key_id) == (pb.PLUGIN_SIGNATURE_STATE_TRUSTED, one.key_id)


async def test_a_key_that_is_trusted_no_more_keeps_its_versions_from_running(
    config: RuntimeConfig, tmp_path: Path
) -> None:
    one, other = signer(tmp_path / "keys", "one"), signer(tmp_path / "keys", "other")
    first, second = packed(tmp_path, "1.0.0"), packed(tmp_path, "2.0.0")
    both = InstallingConfig(trusted_keys={"one": one.public_key, "other": other.public_key}, require_signature=True)
    async with runtime_with(config, both) as (stub, _):
        await install(stub, first, pb.InstallPluginStart(signature=one.sign(first)))
        await install(stub, second, pb.InstallPluginStart(signature=other.sign(second)))
    async with runtime_with(config, replace(both, trusted_keys={"other": other.public_key})) as (stub, host):
        assert (await host.finished("", RUNNER)).message == "2.0.0"
        states = {one.version: one.signature_state for one in (await plugin(stub)).versions}
        assert states == {
            "1.0.0": pb.PLUGIN_SIGNATURE_STATE_NO_LONGER_TRUSTED,
            "2.0.0": pb.PLUGIN_SIGNATURE_STATE_TRUSTED,
        }
        with pytest.raises(WrongState) as caught, errors_by_meaning():
            await stub.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one"))
        assert caught.value.reason == Reason.SIGNATURE_KEY_UNKNOWN
        assert one.key_id in caught.value.message
    async with runtime_with(config, replace(both, trusted_keys={"one": one.public_key})) as (stub, host):
        async with host.run("", RUNNER) as run:
            assert not isinstance(await run.failure(), Unavailable)
        told = (await stub.ListRunners(pb.ListRunnersRequest())).problems
        assert any(other.key_id in problem.message for problem in told if problem.plugin == "test/one")
        found = await plugin(stub)
        assert (found.state, found.version) == (pb.PLUGIN_STATE_BROKEN, "2.0.0")
        assert other.key_id in found.reason
        # A signed one takes its place.
        third = packed(tmp_path, "3.0.0")
        await install(stub, third, pb.InstallPluginStart(signature=one.sign(third)))
        assert (await host.finished("", RUNNER)).message == "3.0.0"


async def test_without_the_need_a_signature_is_checked_all_the_same(config: RuntimeConfig, tmp_path: Path) -> None:
    other = signer(tmp_path / "keys", "other")
    raw = packed(tmp_path, "1.0.0")
    async with runtime_with(config, InstallingConfig()) as (stub, _):
        assert (await refusal(stub, raw, other.sign(raw))).reason == Reason.SIGNATURE_KEY_UNKNOWN
        answer = await install(stub, raw)
        assert answer.plugin.versions[0].signature_state == pb.PLUGIN_SIGNATURE_STATE_NONE


def test_keys_are_made_for_their_owner_and_never_written_over(tmp_path: Path) -> None:
    made = signer(tmp_path, "mine")
    assert made.file.stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-m", "portway.runtime.kit"]
    again = subprocess.run([*command, "keygen", str(made.file)], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "never written over" in again.stderr
    made.file.chmod(0o644)
    (tmp_path / "a.zip").write_bytes(b"x")
    signing = [*command, "sign", str(tmp_path / "a.zip"), "--key", str(made.file)]
    refused = subprocess.run(signing, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr
    made.file.chmod(0o600)
    made.file.write_text("no key")
    refused = subprocess.run(signing, capture_output=True, text=True, check=False)
    assert "is no private key" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"trusted_keys": {"one": "nonsense"}},
        {"require_signature": True},
        {"kept_versions": 0},
        {"at_once": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        InstallingConfig(**settings)  # type: ignore[arg-type]  # wrong on purpose
