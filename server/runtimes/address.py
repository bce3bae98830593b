"""Where another server is: a fixed address, or a ready file that its supervisor or itself writes anew at each start."""

import json
from pathlib import Path


class Address:
    """`text` is `host:port`, `unix:/path`, or the path of a ready file (JSON with `address`)."""

    def __init__(self, text: str) -> None:
        is_file = "/" in text and not text.startswith("unix:")
        self._file = Path(text) if is_file else None
        self._fixed = "" if is_file else text

    def __str__(self) -> str:
        return self._fixed or f"the address in {self._file}"

    def current(self) -> str:
        """The address as it stands now; '' while there is none."""
        if self._file is None:
            return self._fixed
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        address = content.get("address") if isinstance(content, dict) else None
        return address.removeprefix("grpc://") if isinstance(address, str) else ""
