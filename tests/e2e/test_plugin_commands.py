"""`portway plugin` as an operator types it, against `portway up`."""

import json
from pathlib import Path

from tests.e2e.stack import Stack, command, started
from tests.runtime.folders import COMPONENT, write_plugin
from tests.runtime.installed.packs import zip_of_folder

AGENT = 'agents:\n- {agent_id: one, runner_id: "plugin:test/one/default"}\n'


async def tell(stack: Stack, *arguments: str, code: int = 0) -> str:
    done = await stack.portway("plugin", *arguments)
    assert done.code == code, done.out + done.err
    return done.out + done.err


def change(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes() + b"changed")


def forget_the_version(folder: Path) -> None:
    (folder / "manifest.yaml").write_text("author: test\nname: one\n")


async def answer(stack: Stack) -> str:
    done = await stack.portway("send", "hello", "--agent", "one", "--wait")
    return done.out + done.err


async def test_a_plugin_from_the_first_version_to_the_last(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path, version="1.0.0", says="the first")
    keys = tmp_path / "keys"
    keys.mkdir()
    made = await command({}, "plugin", "keygen", str(keys / "mine.pem"))
    public = made.out.rpartition("mine: ")[2].strip().rstrip("}")
    config = f"runtime:\n  installing:\n    trusted_keys: {{mine: {public}}}\n{AGENT}"
    async with started(tmp_path, config=config) as stack:
        assert "installed test/one 1.0.0" in await tell(stack, "install", str(folder))
        assert "the first" in await answer(stack)
        assert "is there already" in await tell(stack, "install", str(folder))

        more = COMPONENT.format(module="one") + "permissions: {models: [invoke]}\n"
        write_plugin(tmp_path, version="1.1.0", says="the second", component=more)
        packed = tmp_path / "second.zip"
        packed.write_bytes(zip_of_folder(folder))
        signing = await command({}, "plugin", "sign", str(packed), "--key", str(keys / "mine.pem"))
        assert signing.code == 0, signing.err
        told = await tell(stack, "install", str(packed), code=1)
        assert "asks for more than was granted: models.invoke" in told
        shown = await tell(stack, "show", "test/one")
        assert "1.1.0 waits: it also asks for models.invoke" in shown
        assert "the first" in await answer(stack)
        assert "granted test/one 1.1.0 (before: 1.0.0)" in await tell(stack, "grant", "test/one")
        assert "the second" in await answer(stack)
        document = json.loads(await tell(stack, "show", "test/one", "--json"))
        assert {one["version"]: one["signature_state"] for one in document["versions"]} == {
            "1.0.0": "PLUGIN_SIGNATURE_STATE_NONE",
            "1.1.0": "PLUGIN_SIGNATURE_STATE_TRUSTED",
        }

        await _what_is_refused(stack, folder, packed)
        await _switched_off_and_on(stack)
        assert "rolled back test/one 1.0.0 (before: 1.1.0)" in await tell(stack, "rollback", "test/one")
        assert "the first" in await answer(stack)
        assert "0 stored values" in await tell(stack, "remove", "test/one", "--delete-data")
        await tell(stack, "show", "test/one", code=3)


async def _what_is_refused(stack: Stack, folder: Path, packed: Path) -> None:
    change(packed)
    assert "the file was changed after it was signed" in await tell(stack, "install", str(packed), code=4)
    forget_the_version(folder)
    assert "manifest.yaml: version: is missing; add it" in await tell(stack, "install", str(folder), code=2)
    assert "came with Portway" in await tell(stack, "remove", "portway/exec", code=1)


async def _switched_off_and_on(stack: Stack) -> None:
    assert "disabled test/one" in await tell(stack, "disable", "test/one", "--reason", "it is loud")
    refused = await answer(stack)
    assert "it is loud" in (await stack.portway("runs", "list", "--json")).out + refused
    pid = await stack.kill("runtime")
    await stack.restarted("runtime", pid)
    listed = await tell(stack, "list")
    assert "disabled" in next(line for line in listed.splitlines() if line.startswith("test/one"))
    await tell(stack, "enable", "test/one")
    assert "the second" in await answer(stack)
