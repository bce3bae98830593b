"""Who may speak to whom: service credentials, made anew at every start, and the first tokens, made once."""

import json
from pathlib import Path

from portway.clients.supervisor.layout import Layout, StartError, write_private
from portway.rpc.errors import NotAuthenticated
from portway.rpc.tokens import MintedToken, ParsedToken, mint_token, parse_token

_PARTS = ("runtime", "box")
EVERY_WORKSPACE = "*"


def write_credentials(layout: Layout) -> None:
    """Give the host one token for each part, and tell each part which tokens it accepts: the host's, and those of
    administrators, which the host writes down for it."""
    _first_token(layout.admin_token, "admin")
    _first_token(layout.adapter_token, "adapter")
    for part in _PARTS:
        service = mint_token("service")
        write_private(layout.credential(part), service.text + "\n")
        accepted = {"tokens": [_accepted(service, part)], "include": [layout.admins.name]}
        write_private(layout.accepted(part), json.dumps(accepted) + "\n")


def _first_token(path: Path, kind: str) -> MintedToken | ParsedToken:
    """The token in the file; a new one where there is no file yet. The host takes it up when it starts."""
    if not path.exists():
        minted = mint_token(kind)
        write_private(path, minted.text + "\n")
        return minted
    try:
        return parse_token(path.read_text(encoding="ascii").strip())
    except (NotAuthenticated, OSError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: holds no token; remove the file and start again to get a new one") from error


def _accepted(token: MintedToken, role: str) -> dict[str, str]:
    return {
        "id": token.token_id,
        "sha256": token.secret_hash.hex(),
        "role": role,
        "workspace_id": EVERY_WORKSPACE,
    }
