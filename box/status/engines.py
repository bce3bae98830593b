"""What the doctor says of a container engine: whether it can be reached, what it is, and what it lacks."""

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any

from portway.box.backends.engine.engine import OLDEST_API, EngineAddress
from portway.box.status.findings import Finding, fine, limited

# A look at a machine waits for nothing: an engine that takes longer is told as one that does not answer.
_SECONDS = 5.0
_MOST_BYTES = 4 << 20
_COST = "the box makes no sessions in its containers"


def look_at_engine(kind: str, wanted: str, environment: Mapping[str, str]) -> Finding:
    """`wanted` is the socket of the settings, empty for where this kind usually is."""
    address = EngineAddress.find(kind, wanted, environment)
    if address.problem:
        found, _, advice = address.problem.partition(": ")
        return limited(kind, found, _COST, f"{advice}; nothing, if you do not want this engine")
    try:
        version, about = _ask(address.path, "/version"), _ask(address.path, "/info")
    except PermissionError:
        return limited(kind, f"permission denied at {address.path}", _COST, "add the box's user to the socket's group")
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        advice = f"look at its log (`journalctl -u {kind}`) and start it again"
        return limited(kind, f"at {address.path} does not answer: {said}", _COST, advice)
    return _judged(kind, version, about)


def _judged(kind: str, version: Mapping[str, Any], about: Mapping[str, Any]) -> Finding:
    number, system = version.get("Version", "?"), version.get("Os") or about.get("OSType") or "linux"
    if system != "linux":
        return limited(kind, f"{number}, with {system} containers", _COST, "switch it to Linux containers")
    if _numbers(version.get("ApiVersion", "")) < _numbers(OLDEST_API):
        found = f"{number} is too old: it speaks API {version.get('ApiVersion') or '?'}"
        return limited(kind, found, _COST, f"install a version that speaks API {OLDEST_API} (Docker 20.10, Podman 4)")
    groups, storage = str(about.get("CgroupDriver") or "none"), about.get("Driver") or "?"
    options = [str(option) for option in about.get("SecurityOptions") or ()]
    found = f"{number}, control groups by {groups}, storage {storage}"
    if not any("seccomp" in option for option in options):
        return limited(kind, f"{found}, without seccomp", _COST, "use an engine and a kernel with seccomp")
    if groups == "none":
        cost = "memory, processes and processor of a session are not bounded"
        return limited(kind, found, cost, "run the engine as root, or with control groups of version 2 and systemd")
    if lacking := [name for name, says in _LIMITS.items() if about.get(says) is False]:
        cost = f"not bounded for a session as a whole: {', '.join(lacking)}"
        return limited(kind, found, cost, "enable these control groups on the machine")
    if any("rootless" in option for option in options):
        return fine(kind, f"{found}, rootless")
    return fine(kind, f"{found}; its containers {'outlive' if about.get('LiveRestoreEnabled') else 'end with'} it")


_LIMITS = {"memory": "MemoryLimit", "swap": "SwapLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _ask(path: str, question: str) -> dict[str, Any]:
    """An answer of the engine. Without its SDK: a box that uses no engine does not load that to look at one."""
    connection = _Local(path)
    try:
        connection.request("GET", question)
        response = connection.getresponse()
        data = response.read(_MOST_BYTES)
        if response.status != http.client.OK:
            raise ValueError(f"it says {response.status} {response.reason}")
        answer: dict[str, Any] = json.loads(data)
        return answer
    finally:
        connection.close()


class _Local(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)
