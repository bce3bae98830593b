"""The configuration of an agent that calls a webhook of n8n, and how it proves who it is."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.service import Options, ServiceOptions, service_options

TOKEN_SECONDS = 300
_DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


@dataclass(frozen=True, slots=True)
class Settings:
    """`service.base_url` is the webhook itself. `output_key` is a path of keys."""

    service: ServiceOptions
    headers: Mapping[str, str] = field(repr=False)
    basic: tuple[str, str] | None = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    input_key: str
    session_key: str
    output_key: tuple[str, ...]
    file_key: str
    inputs: Mapping[str, Any]


def read_settings(config: Mapping[str, Any]) -> Settings:
    options = Options(config)
    headers, basic, secrets = _proof(options)
    return Settings(
        service=service_options(options, field="webhook_url"),
        headers=headers,
        basic=basic,
        secrets=secrets,
        input_key=options.text("input_key", "chatInput"),
        session_key=options.text("session_key", "sessionId"),
        output_key=tuple(options.text("output_key", "output").split(".")),
        file_key=options.text("file_key", "files"),
        inputs=options.document("inputs"),
    )


def _proof(options: Options) -> tuple[dict[str, str], tuple[str, str] | None, tuple[str, ...]]:
    match options.choice("auth", ("none", "basic", "jwt", "header")):
        case "basic":
            user, password = options.text("username"), options.text("password")
            encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
            return {}, (user, password), (password, encoded)
        case "jwt":
            secret = options.text("jwt_secret")
            algorithm = options.choice("jwt_algorithm", tuple(_DIGESTS))
            token = signed_token(secret, algorithm, int(time.time()))
            return {"authorization": f"Bearer {token}"}, None, (secret, token)
        case "header":
            value = options.header("header_value")
            return {options.header("header_name"): value}, None, (value,)
    return {}, None, ()


def signed_token(secret: str, algorithm: str, now: int) -> str:
    """A JSON Web Token that is good for a few minutes."""
    header = {"alg": algorithm, "typ": "JWT"}
    claims = {"iss": "portway", "iat": now, "exp": now + TOKEN_SECONDS}
    signed = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    digest = hmac.digest(secret.encode(), signed.encode(), _DIGESTS[algorithm])
    return f"{signed}.{_encoded(digest)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
