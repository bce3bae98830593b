"""A container engine on this machine, through its socket. The only place that knows the SDK."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from portway.box.tasks import to_its_end
from portway.rpc.errors import NotFound, PortwayError, Unavailable, WrongState

T = TypeVar("T")
DOCKER, PODMAN = "docker", "podman"
# The first version with private control group namespaces.
OLDEST_API = "1.41"
_THREADS = 4
_REMOVE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an engine listens: `path` of its socket, or why there is none to use."""

    kind: str
    path: str
    problem: str = ""

    @classmethod
    def find(cls, kind: str, wanted: str, environment: Mapping[str, str]) -> "EngineAddress":
        """`wanted` is a path or URL from the settings, empty for where this kind of engine usually is."""
        asked = wanted or (environment.get("DOCKER_HOST", "") if kind == DOCKER else "")
        if asked:
            url = urlsplit(asked)
            if url.scheme not in ("", "unix", "http+unix"):
                text = f"{kind} at {asked} is not on this machine: the box needs an engine with a Unix socket here"
                return cls(kind, "", text)
            return cls(kind, url.path)._checked()
        found = [cls(kind, path)._checked() for path in _usual(kind, environment)]
        return next((one for one in found if not one.problem), found[0])

    def _checked(self) -> "EngineAddress":
        try:
            there = stat.S_ISSOCK(os.stat(self.path).st_mode)
        except OSError:
            there = False
        if not there:
            setting = f"box.engine.{self.kind}_socket"
            text = f"there is no socket of {self.kind} at {self.path}: start the engine, or set `{setting}`"
            return EngineAddress(self.kind, self.path, text)
        if not os.access(self.path, os.W_OK):
            text = f"the socket of {self.kind} at {self.path} is not open to this user: add it to the socket's group"
            return EngineAddress(self.kind, self.path, text)
        return self


def _usual(kind: str, environment: Mapping[str, str]) -> list[str]:
    own = environment.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    if kind == DOCKER:
        return ["/var/run/docker.sock", f"{own}/docker.sock"]
    return ["/run/podman/podman.sock", f"{own}/podman/podman.sock"]


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image that is here: its id, the places where it wants volumes and the names of its variables.

    Sessions get neither from the engine: variables would be the keeper's too, and tell its loader what to load.
    """

    image_id: str
    volumes: tuple[str, ...]
    variables: tuple[str, ...] = ()


class Engine:
    """Talks to an engine on threads of its own. Each call raises `Unavailable` where the engine does not answer."""

    def __init__(self, address: EngineAddress, timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        self._client: Any = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"box-{address.kind}")

    @property
    def kind(self) -> str:
        return self.address.kind

    async def version(self) -> str:
        """The engine's name and version. Raises `WrongState` where it has no containers of this kernel."""
        said = await self._ask(lambda client: client.version())
        if said.get("Os", "linux") != "linux":
            raise WrongState(f"{self.kind} runs {said['Os']} containers; the box needs Linux ones")
        return f"{self.kind} {said.get('Version', '?')}"

    async def image(self, name: str) -> EngineImage:
        """Raises `NotFound`."""
        said = await self._ask(lambda client: client.inspect_image(name), missing=NotFound.of("image", name))
        config = said.get("Config") or {}
        variables = tuple(entry.partition("=")[0] for entry in config.get("Env") or ())
        return EngineImage(said["Id"], tuple(config.get("Volumes") or ()), variables)

    async def import_image(self, tar: BinaryIO, name: str, change: str) -> None:
        """Makes an image of a tar. Its sender closes the other end when nobody waits for it any more."""
        said = await self._ask(
            # With the tag in the name: Podman does not look for it elsewhere.
            lambda client: client.import_image_from_stream(tar, repository=name, changes=[change])
        )
        if '"error"' in said:
            raise Unavailable(f"{self.kind} did not take the image: {said[-300:]}")

    async def remove_image(self, name: str) -> None:
        """One that is not there is no error."""
        with contextlib.suppress(NotFound):
            await self._ask(lambda client: client.remove_image(name), missing=NotFound.of("image", name))

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """A container that does not run yet; its id. `name` stands for it where the answer is not waited for."""
        made = await self._ask(lambda client: client.create_container_from_config(dict(config), name))
        return str(made["Id"])

    async def start(self, container: str) -> int:
        """Returns the process id of its first process on this machine."""
        await self._ask(lambda client: client.start(container))
        said = await self._ask(lambda client: client.inspect_container(container))
        return int(said["State"]["Pid"])

    async def remove(self, container: str) -> None:
        """Kills and removes it, with what the engine keeps for it. One that is gone, or going, is no error."""
        await self._ask(lambda client: _remove(client, container))

    async def containers(self, labels: Mapping[str, str]) -> list[str]:
        """The ids of all containers with these labels, running or not."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        said = await self._ask(lambda client: client.containers(all=True, filters=filters))
        return [str(one["Id"]) for one in said]

    async def _ask(self, call: Callable[[Any], T], missing: PortwayError | None = None) -> T:
        # Not given up half way: what the engine makes after nobody listens any more, nobody takes away.
        return await to_its_end(self._in_thread(call, missing))

    async def _in_thread(self, call: Callable[[Any], T], missing: PortwayError | None) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, call, missing)

    def _call(self, call: Callable[[Any], T], missing: PortwayError | None) -> T:
        # 0.3 s and 22 MB, which only a box that uses an engine pays.
        import docker  # noqa: PLC0415
        import requests  # noqa: PLC0415

        if self.address.problem:
            raise WrongState(self.address.problem)
        try:
            if self._client is None:
                url = f"unix://{self.address.path}"
                self._client = docker.APIClient(base_url=url, version=OLDEST_API, timeout=self._timeout)
                # The SDK keeps a connection open for each address that was ever asked, and containers have their own.
                self._client.headers["Connection"] = "close"
            return call(self._client)
        except docker.errors.NotFound as error:
            raise missing or Unavailable(f"{self.kind} refused: {error.explanation}") from None
        except docker.errors.APIError as error:
            raise Unavailable(f"{self.kind} refused: {error.explanation}") from None
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            raise Unavailable(f"{self.kind} at {self.address.path} does not answer: {_short(error)}") from None

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        if self._client is not None:
            self._client.close()
            self._client = None


def _remove(client: Any, container: str) -> None:
    import docker  # noqa: PLC0415 - only reached with a client

    try:
        client.remove_container(container, v=True, force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if "is already in progress" not in str(error.explanation):
            raise
        # Another one removes it: the engine itself, where it ended by itself.
        try:
            client.wait(container, timeout=_REMOVE_SECONDS, condition="removed")
        except docker.errors.NotFound:
            return


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
