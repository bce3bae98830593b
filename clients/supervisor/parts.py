"""The processes that make up an installation, and how each is started."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from portway.clients.supervisor.layout import Layout
from portway.clients.supervisor.surroundings import environment_of
from portway.rpc.configuration import SECTIONS


@dataclass(frozen=True, slots=True)
class Settings:
    """What `portway up` was asked for. Port 0 picks a free one."""

    data: Path
    port: int
    web_port: int
    config: Path | None
    bind: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Part:
    """One process. `needs` are parts that must have been ready once before it starts; an optional one may stay away."""

    name: str
    module: str
    arguments: tuple[str, ...]
    listen: str
    needs: tuple[str, ...] = ()
    optional: bool = False
    sections: tuple[str, ...] = ()
    """Those of the configuration that it reads. Others may hold keys, and what reads them not is not told of them."""
    config: Path | None = None

    def command(self, ready_file: Path, listen: str) -> list[str]:
        own = ["--listen", listen, "--ready-file", str(ready_file)]
        return [sys.executable, "-m", self.module, *own, *self.arguments]

    def environment(self, whole: Mapping[str, str]) -> dict[str, str]:
        """What it is given of the supervisor's."""
        return environment_of(self.name, self.sections, whole, self.config)


def parts_of(settings: Settings, layout: Layout) -> tuple[Part, ...]:
    """All parts. They start at once, but for those that need another one first."""
    config = ("--config", str(settings.config)) if settings.config else ()
    anywhere = "127.0.0.1:0"
    parts = (
        Part(
            *("runtime", "portway.runtime", (*_own(layout, "runtime"), *config), anywhere),
            sections=("runtime", "log", "telemetry"),
        ),
        Part(
            *("box", "portway.box", (*_own(layout, "box"), "--pass-keys", str(layout.pass_keys), *config), anywhere),
            optional=True,
            sections=("box", "log", "telemetry"),
        ),
        Part(
            "host",
            "portway.server",
            (
                *("--data", str(layout.of("host"))),
                # Programs in sandboxes of this machine ask for models here; nobody else reaches it.
                *("--http-default", "127.0.0.1:0"),
                *(
                    "--runtime",
                    str(layout.ready_of("runtime")),
                    "--runtime-credential",
                    str(layout.credential("runtime")),
                ),
                *("--box", str(layout.ready_of("box")), "--box-credential", str(layout.credential("box"))),
                *("--admin-token-file", str(layout.admin_token), "--adapter-token-file", str(layout.adapter_token)),
                *("--admins-file", str(layout.admins), "--pass-keys-file", str(layout.pass_keys)),
                *config,
            ),
            f"{settings.bind}:{settings.port}",
            sections=tuple(section for section in SECTIONS if section not in ("runtime", "box", "web")),
        ),
        Part(
            "web",
            "portway.adapters.web_chat",
            (
                *("--data", str(layout.of("web"))),
                *("--host", str(layout.ready_of("host")), "--token-file", str(layout.adapter_token)),
                *config,
            ),
            f"{settings.bind}:{settings.web_port}",
            needs=("host",),
            sections=("web", "log"),
        ),
    )
    return tuple(replace(part, config=settings.config) for part in parts)


def _own(layout: Layout, part: str) -> tuple[str, ...]:
    return ("--data", str(layout.of(part)), "--credentials", str(layout.accepted(part)))
