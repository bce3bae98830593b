"""The host's keys: made once, kept from others, never written over."""

import json
from pathlib import Path

import pytest

from portway.rpc.errors import DataLoss, WrongState
from portway.server.storage_engine.keyring import Keyring, Sealed, load_keyring, save_keyring


def test_a_first_start_makes_a_key_that_the_next_start_finds(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    sealed = load_keyring(path).seal(b"secret", "here")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_keyring(path).open(sealed, "here") == b"secret"
    assert b"secret" not in sealed.ciphertext


def test_equal_secrets_have_different_ciphertexts(tmp_path: Path) -> None:
    keyring = load_keyring(tmp_path / "keys.json")
    assert keyring.seal(b"secret", "here") != keyring.seal(b"secret", "here")


def test_a_secret_opens_only_where_it_belongs_and_unaltered(tmp_path: Path) -> None:
    keyring = load_keyring(tmp_path / "keys.json")
    sealed = keyring.seal(b"secret", "here")
    altered = sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
    for wrong, context in ((sealed, "there"), (Sealed(sealed.key_id, altered), "here"), (Sealed("key_0", b""), "here")):
        with pytest.raises(DataLoss):
            keyring.open(wrong, context)


def test_after_a_rotation_old_secrets_open_and_new_ones_use_the_new_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = load_keyring(path)
    old = first.seal(b"old", "here")
    save_keyring(path, first.rotated())
    second = load_keyring(path)
    new = second.seal(b"new", "here")
    assert second.open(old, "here") == b"old"
    assert new.key_id != old.key_id
    with pytest.raises(DataLoss):
        first.open(new, "here")


def test_derived_keys_differ_by_purpose_and_stay_over_a_rotation(tmp_path: Path) -> None:
    keyring = load_keyring(tmp_path / "keys.json")
    assert keyring.derive("cursors") != keyring.derive("pages")
    assert keyring.rotated().derive("cursors") == keyring.derive("cursors")
    assert len(keyring.derive("cursors")) == 32


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    load_keyring(path)
    path.chmod(0o640)
    with pytest.raises(WrongState, match="chmod 600"):
        load_keyring(path)


@pytest.mark.parametrize("content", ["", "{}", '{"keys": []}', '{"keys": [{"id": "a", "key": "c2hvcnQ="}]}', "[1]"])
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(WrongState, match="not a Portway key file"):
        load_keyring(path)
    assert path.read_text() == content


def test_keys_do_not_print(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keyring = load_keyring(path)
    material = json.loads(path.read_text())["keys"][0]["key"]
    assert material not in repr(keyring.keys)
    assert repr(keyring.keys[0].material) not in repr(keyring.keys)
    with pytest.raises(ValueError, match="at least one"):
        Keyring(())
