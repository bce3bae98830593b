"""Everything that a run may ask of the host, by noun."""

from portway.runtime.sdk.host.box import RunBox
from portway.runtime.sdk.host.context import Events, History, Knowledge, Prompt
from portway.runtime.sdk.host.files import Artifacts, Files
from portway.runtime.sdk.host.kept import State, Storage
from portway.runtime.sdk.host.models import Models
from portway.runtime.sdk.host.platform import Actions, HostApprovals, Interactions
from portway.runtime.sdk.host.tools import Tools
from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.session.steering import Steering


class HostApi:
    """The host as one run sees it. Each call is bounded by the run's time and raises the meanings of
    `portway.rpc.errors`: `NotFound` outside the run's resources, `NotPermitted` without the permission, and so on."""

    def __init__(self, calls: Calls, steering: Steering, run_token: str, bridge_token: str = "") -> None:
        self.models = Models(calls)
        self.tools = Tools(calls)
        self.knowledge = Knowledge(calls)
        self.history = History(calls)
        self.events = Events(calls)
        self.files = Files(calls)
        self.artifacts = Artifacts(calls)
        self.state = State(calls)
        self.storage = Storage(calls)
        self.prompt = Prompt(calls)
        self.steering = steering
        self.actions = Actions(calls)
        self.interactions = Interactions(calls)
        self.approvals = HostApprovals(calls)
        self.box = RunBox(calls)
        self.request_action = self.actions.request
        self.request_interaction = self.interactions.request
        # For what a runner starts beside its stream (a bridge, a program in the box); a secret, dead when the run ends.
        self.run_token = run_token
        # For what may use the run's MCP bridge and nothing else; as secret, and as short-lived.
        self.bridge_token = bridge_token
