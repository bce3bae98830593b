"""The host's token for another server, in a file that is written anew at each start of the installation."""

from collections.abc import Callable
from pathlib import Path

from portway.rpc.errors import Reason, Unavailable


def token_in(path: Path | None) -> Callable[[], str]:
    """Reads the file at each use. It raises Unavailable while there is none."""

    def read() -> str:
        if path is None:
            return ""
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(
                f"the credential file {path} cannot be read; `portway up` writes it", reason=Reason.NOT_CONFIGURED
            ) from error

    return read
