"""What sessions may reach: the part `network` of the box's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.box.backends.types import Network
from portway.box.network.addresses import networks_of, objection_to_setting
from portway.box.network.names import BadName, host_of


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Counts and seconds.

    `modes` are those that sessions may have. `allowed_private` opens networks that are not public, `denied` closes any.
    `hosts` gives names fixed addresses. `nameservers` (`address` or `address:port`): those of the machine if empty.
    """

    modes: tuple[Network, ...] = tuple(Network)
    allowed_private: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    denied_ports: tuple[int, ...] = (25,)
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nameservers: tuple[str, ...] = ()
    connections: int = 256
    idle: float = 300.0
    connect: float = 10.0
    head: float = 10.0

    def __post_init__(self) -> None:
        for network in networks_of((*self.allowed_private, *self.denied)):
            if str(network) in self.allowed_private and (why := objection_to_setting(network)):
                raise ValueError(f"`network.allowed_private` has {network}: {why}")
        try:
            for name, addresses in self.hosts.items():
                host_of(name)
                networks_of(addresses)
        except BadName as error:
            raise ValueError(f"`network.hosts`: {error}") from None
        if self.connections < 2 or min(self.idle, self.connect, self.head) <= 0:
            raise ValueError("`network.connections` must be at least 2 (names need one too), its times above 0")
