"""Who may use the page: whoever has the web key. It is made at the first start and lies in a file of this user alone.

A session is a signed cookie, so that it outlives the process and nothing has to be kept for it.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.configuration import ConfigurationError

SESSION_SECONDS = 30 * 24 * 3600
COOKIE_SECONDS = 400 * 24 * 3600
"""The cookie outlives the session, so that who signs in again is the same user as before."""
_KEY_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{32,128}")
_COOKIE = re.compile(r"1\.(?P<user>[0-9a-f]{24})\.(?P<end>[0-9]{1,12})\.(?P<seal>[0-9a-f]{64})")
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has the key. `user` is the same for one browser over all its sessions."""

    user: str
    end: int

    @property
    def stale(self) -> bool:
        """Half of its time is over: it should be renewed."""
        return self.end - time.time() < SESSION_SECONDS / 2


class WebKey:
    """The key, and the sessions that were opened with it. A new key ends them all."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._seal_key = hmac.digest(text.encode(), b"portway web session", "sha256")
        # Browsers share cookies between the ports of a host: each web chat has a name of its own.
        self.cookie = f"portway_web_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return "WebKey(…)"

    def fits(self, given: str) -> bool:
        return hmac.compare_digest(given.strip().encode(), self.text.encode())

    def open(self, earlier: Session | None = None) -> str:
        """The cookie of a new session; of the same user where there was an earlier one."""
        user = earlier.user if earlier is not None else secrets.token_hex(12)
        end = int(time.time()) + SESSION_SECONDS
        return f"1.{user}.{end}.{self._seal(user, end)}"

    def session(self, cookie: str | None) -> Session | None:
        """The session behind a cookie; None where there is none, or its time is over."""
        session = self.earlier(cookie)
        return session if session is not None and time.time() < session.end else None

    def earlier(self, cookie: str | None) -> Session | None:
        """The session behind a cookie, even where its time is over: it says who is about to sign in again."""
        match = _COOKIE.fullmatch(cookie or "")
        if match is None:
            return None
        user, end = match["user"], int(match["end"])
        genuine = hmac.compare_digest(self._seal(user, end), match["seal"])
        return Session(user, end) if genuine else None

    def _seal(self, user: str, end: int) -> str:
        return hmac.new(self._seal_key, f"{user}.{end}".encode(), "sha256").hexdigest()


def load_key(path: Path) -> WebKey:
    """The key in the file, made where there is none. Raises `ConfigurationError` for a file that cannot hold it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_new(path)
        if path.stat().st_mode & _OTHERS:
            raise ConfigurationError(f"{path}: other users can read the web key; run `chmod 600 {path}`")
        text = path.read_text(encoding="ascii").strip()
    except FileExistsError:
        return load_key(path)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(
            f"{path}: the web key cannot be read or made ({what}); make the folder writable or choose another --data"
        ) from error
    if _FORM.fullmatch(text) is None:
        raise ConfigurationError(f"{path}: holds no web key; remove the file and start again to get a new one")
    return WebKey(text)


def _write_new(path: Path) -> None:
    """In one step, so that a crash leaves no half key; and never over one that somebody else has just made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink()
