"""Where the command line looks for Portway."""

import json
from pathlib import Path

import pytest

from portway.clients.endpoint import find_endpoint
from portway.clients.supervisor.layout import Layout, StartError, lock, prepare, remember_current, write_json
from portway.rpc.errors import WrongState


def started(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose `portway up` runs."""
    layout = Layout(tmp_path / "data")
    prepare(layout)
    layout.admin_token.write_text("pw_secret\n")
    write_json(layout.ready, {"host": "127.0.0.1:1", "box": "127.0.0.1:2", "token_file": str(layout.admin_token)})
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    remember_current(layout, environment)
    return environment


def test_the_last_start_is_found_without_a_word(tmp_path: Path) -> None:
    endpoint = find_endpoint(started(tmp_path))
    assert (endpoint.host, endpoint.box, endpoint.token) == ("127.0.0.1:1", "127.0.0.1:2", "pw_secret")


def test_the_environment_stands_over_the_last_start(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("pw_other")
    given = {"PORTWAY_HOST": "127.0.0.1:9", "PORTWAY_TOKEN_FILE": str(token_file)}
    endpoint = find_endpoint(started(tmp_path) | given)
    assert (endpoint.host, endpoint.box, endpoint.token) == ("127.0.0.1:9", "127.0.0.1:2", "pw_other")


def test_without_any_token_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match=r"`portway up`.*PORTWAY_TOKEN"):
        find_endpoint({"XDG_STATE_HOME": str(tmp_path)})


def test_an_endpoint_never_shows_its_token(tmp_path: Path) -> None:
    assert "pw_secret" not in repr(find_endpoint(started(tmp_path)))


def test_files_of_the_start_are_private(tmp_path: Path) -> None:
    started(tmp_path)
    layout = Layout(tmp_path / "data")
    assert layout.run.stat().st_mode & 0o777 == 0o700
    assert layout.ready.stat().st_mode & 0o777 == 0o600
    assert json.loads(layout.ready.read_text())["host"] == "127.0.0.1:1"


def test_a_second_start_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    prepare(layout)
    held = lock(layout)
    assert held > 0
    with pytest.raises(StartError, match="another `portway up` .* already runs on it"):
        lock(layout)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot be written .*--data"):
        prepare(Layout(tmp_path / "file" / "data"))
