"""Secrets of a configuration whose runner is not known yet are told by the names of their fields."""

import pytest

from portway.server.agents.config_secrets import masked, take_secrets


@pytest.mark.parametrize("name", ["api_key", "password", "jwt_secret", "header_value", "token"])
def test_what_is_named_like_a_secret_is_kept_apart(name: str) -> None:
    stored = take_secrets("n8n", {name: "abc", "base_url": "http://n8n"}, None)
    assert "abc" not in stored.config_json
    assert stored.secrets == {f"agent/n8n/{name}": "abc"}
    assert masked(stored.config_json) == {name: "********", "base_url": "http://n8n"}
