"""Which hosts and ports a session may reach with ALLOW_LIST."""

from collections.abc import Sequence
from dataclasses import dataclass

from portway.box.network.names import BadName, Host, host_of, port_of, split_port, written

# What an entry without a port stands for.
DEFAULT_PORTS = (80, 443)
_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. With `below`, every name below `host` and not itself. No ports means the default ones."""

    host: Host
    below: bool
    ports: tuple[int, ...]

    def permits(self, host: Host, port: int) -> bool:
        if port not in self.ports:
            return False
        if self.below:
            return isinstance(host, str) and host.endswith(f".{self.host}")
        return host == self.host

    def written(self) -> str:
        """The entry in its one form."""
        name = f"{_WILDCARD if self.below else ''}{written(self.host)}"
        return name if self.ports == DEFAULT_PORTS else f"{name}:{self.ports[0]}"


def entry_of(text: str) -> Entry:
    """`example.org:443`, `*.example.org:443`, `203.0.113.5:443`, `[2001:db8::1]:443`; without a port 80 and 443.

    Raises `BadName` with the reason.
    """
    below = text.startswith(_WILDCARD)
    name, port = split_port(text.removeprefix(_WILDCARD) if below else text)
    if "*" in name:
        raise BadName("a `*` stands alone in front of a name: `*.example.org`")
    host = host_of(name)
    if below and (not isinstance(host, str) or "." not in host):
        raise BadName("`*.` needs a name of at least two parts behind it; for everything ask for the mode ON")
    return Entry(host, below, (port_of(port),) if port else DEFAULT_PORTS)


class AllowList:
    """The entries of one session."""

    def __init__(self, entries: Sequence[str]) -> None:
        """Raises `BadName`."""
        self._entries = tuple(entry_of(entry) for entry in entries)

    def permits(self, host: Host, port: int) -> bool:
        return any(entry.permits(host, port) for entry in self._entries)
