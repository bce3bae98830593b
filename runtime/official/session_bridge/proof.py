"""How the queue shows that it knows the token of its folder, without telling it."""

import hashlib
import hmac


def proof_of(token: str, nonce: str) -> str:
    return hmac.new(token.encode(), f"portway-session-bridge:{nonce}".encode(), hashlib.sha256).hexdigest()
