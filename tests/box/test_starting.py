"""Starting a box: what is wrong is said in a line that tells what to do."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.rpc.configuration import EXIT_CODE
from portway.rpc.errors import NotAuthenticated
from portway.v1 import box_pb2
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, interpreter, why_not
from tests.box.inside import dial


@pytest.fixture
def fresh() -> Iterator[BoxProcess]:
    """A box that is not started, in whatever mode this machine allows."""
    mode = next((mode for mode in (ROOT, UNPRIVILEGED) if not why_not(mode)), None)
    if mode is None:
        pytest.skip(why_not(UNPRIVILEGED))
    with box_process(mode) as box:
        (box.folder / "config.yaml").write_text("box: {}\n")
        yield box


def outcome(box: BoxProcess, *flags: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [*interpreter(box.mode), "-m", "portway.box", *box.flags(), *flags],
        env=box.whole_environment() | (environment or {}),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("portway box: ")]
    assert len(said) == 1, done.stderr
    return done.returncode, said[0]


def test_a_key_with_a_typing_error_is_refused_with_a_suggestion(fresh: BoxProcess) -> None:
    (fresh.folder / "config.yaml").write_text("box:\n  max_session: 3\n")
    code, said = outcome(fresh)
    assert code == EXIT_CODE
    assert "did you mean `max_sessions`" in said


def test_a_variable_with_a_typing_error_is_refused(fresh: BoxProcess) -> None:
    code, said = outcome(fresh, environment={"PORTWAY__BOX__REAP_INTERVALL": "3"})
    assert code == EXIT_CODE
    assert "did you mean `reap_interval`" in said


def test_a_wrong_profile_lock_is_refused(fresh: BoxProcess) -> None:
    (fresh.folder / "config.yaml").write_text("box:\n  profiles:\n    own: {locked: [nothing]}\n")
    code, said = outcome(fresh)
    assert code == EXIT_CODE
    assert "cannot lock nothing" in said


def test_a_port_in_use_is_told(fresh: BoxProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = outcome(fresh, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 1
    assert "cannot listen" in said


def test_a_public_address_needs_tls_or_a_plain_word(fresh: BoxProcess) -> None:
    code, said = outcome(fresh, "--listen", "0.0.0.0:0")
    assert code == EXIT_CODE
    assert "insecure_public_listen" in said


def test_a_credentials_file_that_others_can_read_is_refused(fresh: BoxProcess) -> None:
    (fresh.folder / "credentials.json").chmod(0o644)
    code, said = outcome(fresh)
    assert code == EXIT_CODE
    assert "chmod 600" in said


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tokens": [{}]}', '{"tokens": [{"id": "x", "sha256": "zz"}]}'])
def test_a_credentials_file_that_is_none_is_refused(fresh: BoxProcess, content: str) -> None:
    (fresh.folder / "credentials.json").write_text(content)
    code, said = outcome(fresh)
    assert code == EXIT_CODE
    assert "accepted tokens" in said


def test_a_data_folder_that_cannot_be_used_is_told(fresh: BoxProcess) -> None:
    code, said = outcome(fresh, "--data", "/proc/nowhere")
    assert code == 1
    assert "data folder" in said


async def test_tokens_are_given_and_taken_away_while_it_runs(fresh: BoxProcess) -> None:
    fresh.start()
    file = fresh.folder / "credentials.json"
    entries = json.loads(file.read_text())
    without_viewer = [entry for entry in entries["tokens"] if entry["role"] != "viewer"]
    async with dial(fresh, "viewer") as channel:
        await ask(channel, box_pb2.GetBoxStatusRequest())
        writing = file.with_suffix(".new")
        writing.touch(0o600)
        writing.write_text(json.dumps({"tokens": without_viewer}))
        if os.geteuid() == 0:
            os.chown(writing, file.stat().st_uid, file.stat().st_gid)
        writing.rename(file)
        with pytest.raises(NotAuthenticated):
            await ask(channel, box_pb2.GetBoxStatusRequest())


async def test_a_box_that_is_asked_to_end_ends(fresh: BoxProcess) -> None:
    fresh.start()
    async with dial(fresh) as channel:
        drained = await ask(channel, box_pb2.DrainBoxRequest())
        assert drained.running_count == 0
        assert (await ask(channel, box_pb2.GetBoxStatusRequest())).draining
        await ask(channel, box_pb2.ShutdownBoxRequest())
    assert fresh.wait_ended() == 0


def test_nothing_secret_is_in_its_arguments_or_its_launchers(fresh: BoxProcess) -> None:
    fresh.start()
    secrets = [token.text.rpartition("_")[2] for token in fresh.tokens.values()]
    for pid in (fresh.pid, *fresh.launcher_pids()):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                content = file.read()
            assert not any(secret.encode() in content for secret in secrets)
    for pid in fresh.launcher_pids():
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert file.read() == b""
    assert not any(secret in fresh.log() for secret in secrets)


def in_a_chroot(root: Path) -> tuple[str, ...]:
    """Starts a program in a chroot that shows all of this machine; `root` is a plain directory."""
    script = ["set -e", f"mkdir {root}"]
    for each in Path("/").iterdir():
        if each.is_symlink():
            script.append(f"ln -s {each.readlink()} {root}{each}")
        elif each.is_dir():
            script.append(f"mkdir {root}{each}; mount --rbind {each} {root}{each}")
    return ("unshare", "--mount", "/bin/sh", "-c", "\n".join([*script, f'exec chroot {root} "$@"']), "sh")


async def test_a_box_in_a_chroot_says_so_once(fresh: BoxProcess) -> None:
    if fresh.mode != ROOT:
        pytest.skip("only root can make a chroot")
    fresh.through = in_a_chroot(fresh.folder / "root")
    fresh.start()
    async with dial(fresh) as channel:
        status = await ask(channel, box_pb2.GetBoxStatusRequest())
        again = await ask(channel, box_pb2.GetBoxStatusRequest())
        errors = (await ask(channel, box_pb2.ListErrorsRequest())).errors
    assert not status.available and "this is a chroot" in status.reason
    assert again.reason == status.reason
    assert [error.code for error in errors] == ["BACKEND_UNAVAILABLE"]
