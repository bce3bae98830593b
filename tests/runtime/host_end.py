"""The host's end of runs of the plugins in plugin_folders."""

from portway.rpc.channel import PortwayChannel
from portway.runtime.kit import host_end
from portway.runtime.kit.host_end import Run as Run

BEHAVE = "plugin:test/behave/default"
NEIGHBOUR = "plugin:test/neighbour/default"


class HostEnd(host_end.HostEnd):
    """Opens runs on a runtime, of BEHAVE unless a run names another."""

    def __init__(self, channel: PortwayChannel) -> None:
        super().__init__(channel, BEHAVE)
