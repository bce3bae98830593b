"""Networks of sessions: what is allowed here, how a sandbox gets one, and that nothing of it outlives the sandbox."""

import dataclasses
import os

from portway.box.backends.interface import RunningCommand, Sandbox, Search
from portway.box.backends.types import (
    CommandSpec,
    FileAccess,
    ListenPlace,
    Network,
    PortPlace,
    Protocol,
    SandboxUsage,
    SkillMount,
    Steering,
)
from portway.box.isolation.users import UserPool
from portway.box.network import dns
from portway.box.network.addresses import NOT_PUBLIC, own_addresses
from portway.box.network.gate_client import GateClient
from portway.box.network.policy import PROXY_PORT, STEERED_PORT
from portway.box.network.settings import NetworkSettings
from portway.box.sessions.types import NetworkPolicy, SessionRef
from portway.box.status.errors import ErrorLog
from portway.rpc.errors import Reason, WrongState


class Networks:
    """Gives sandboxes their networks, through one gate. Sessions without one have nothing to do with it."""

    def __init__(self, settings: NetworkSettings, users: UserPool | None, errors: ErrorLog) -> None:
        self._settings = settings
        self._errors = errors
        self._refs: dict[str, SessionRef] = {}
        self.gate = GateClient(settings, users, self._refused, lambda text: errors.note("NETWORK_GATE_LOST", text))

    def check(self, policy: NetworkPolicy) -> None:
        """Raises `WrongState` for a mode that the operator does not allow."""
        if policy.mode not in self._settings.modes:
            modes = ", ".join(mode.name for mode in self._settings.modes)
            raise WrongState(
                f"the operator of the box does not allow the network mode {policy.mode.name} (`box.network.modes`); "
                f"ask for one of {modes}",
                reason=Reason.REFUSED_BY_POLICY,
            )

    def steering(self, policy: NetworkPolicy) -> Steering | None:
        """What a sandbox with the mode ON does with connections."""
        if policy.mode is not Network.ON:
            return None
        settings = self._settings
        own = [f"{address}/{address.max_prefixlen}" for address in own_addresses()]
        refused = (*(str(network) for network in NOT_PUBLIC), *own, *settings.denied)
        return Steering(STEERED_PORT, refused, settings.allowed_private)

    async def attach(self, ref: SessionRef, key: str, policy: NetworkPolicy, sandbox: Sandbox) -> Sandbox:
        """The sandbox with its network. One that cannot have it is taken down, and its workspace kept."""
        if policy.mode is Network.OFF:
            return sandbox
        self._refs[key] = ref
        made = _Networked(sandbox, key, self)
        try:
            await self._open(key, policy, sandbox)
        except BaseException:
            await made.delete(keep_workspace=True)
            raise
        return made

    async def _open(self, key: str, policy: NetworkPolicy, sandbox: Sandbox) -> None:
        if policy.mode is Network.ALLOW_LIST:
            places = [PortPlace(PROXY_PORT)]
        else:
            names = PortPlace(dns.PORT, Protocol.UDP), PortPlace(dns.PORT)
            places = [PortPlace(STEERED_PORT, any_address=True), *names]
        descriptors: list[int] = []
        try:
            for place in places:
                descriptors.append(await sandbox.listen(place))
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        await self.gate.open(key, policy.allow if policy.mode is Network.ALLOW_LIST else None, descriptors)

    async def detach(self, key: str) -> None:
        await self.gate.close(key)
        self._refs.pop(key, None)

    def _refused(self, key: str, text: str) -> None:
        ref = self._refs.get(key)
        if ref is not None:
            self._errors.note("NETWORK_REFUSED", text, ref.session_id, ref.workspace_id)


class _Networked:
    """Implements `Sandbox`: one with a network, which ends with it."""

    def __init__(self, sandbox: Sandbox, key: str, networks: Networks) -> None:
        self._sandbox = sandbox
        self._key = key
        self._networks = networks

    @property
    def alive(self) -> bool:
        return self._sandbox.alive

    @property
    def unenforced(self) -> tuple[str, ...]:
        return self._sandbox.unenforced

    async def start(self, command: CommandSpec) -> RunningCommand:
        return await self._sandbox.start(command)

    async def search(self, request: bytes, mount: int) -> Search:
        return await self._sandbox.search(request, mount)

    async def listen(self, place: ListenPlace) -> int:
        return await self._sandbox.listen(place)

    async def unlisten(self, name: str) -> None:
        await self._sandbox.unlisten(name)

    def files(self) -> FileAccess:
        return self._sandbox.files()

    async def show_skills(self, skills: tuple[SkillMount, ...]) -> int:
        return await self._sandbox.show_skills(skills)

    async def usage(self) -> SandboxUsage:
        used, network = await self._sandbox.usage(), await self._networks.gate.usage(self._key)
        return dataclasses.replace(
            used,
            sent_bytes=network.sent_bytes,
            received_bytes=network.received_bytes,
            connection_count=network.connection_count,
            refused_count=network.refused_count,
        )

    async def delete(self, *, keep_workspace: bool = False) -> int:
        try:
            await self._networks.detach(self._key)
        finally:
            killed = await self._sandbox.delete(keep_workspace=keep_workspace)
        return killed
