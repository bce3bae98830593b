"""A file with the tokens that a server accepts, as `portway up` writes it."""

import json
from collections.abc import Mapping
from pathlib import Path

from portway.rpc.identity import Role
from portway.rpc.tokens import MintedToken


def credentials_file(path: Path, tokens: Mapping[Role, MintedToken], workspace_id: str = "*") -> Path:
    """One token a role."""
    entries = [
        {
            "id": token.token_id,
            "sha256": token.secret_hash.hex(),
            "role": role.name.lower(),
            "workspace_id": workspace_id,
        }
        for role, token in tokens.items()
    ]
    path.touch(0o600)
    path.write_text(json.dumps({"tokens": entries}))
    return path
