"""The processes that make up an installation, and how each is started."""

import sys
from dataclasses import dataclass
from pathlib import Path

from portway.clients.supervisor.layout import Layout


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

    def command(self, ready_file: Path, listen: str) -> list[str]:
        own = ["--listen", listen, "--ready-file", str(ready_file)]
        return [sys.executable, "-m", self.module, *own, *self.arguments]


def parts_of(settings: Settings, layout: Layout) -> tuple[Part, ...]:
    """All parts. They start at once, but for those that need another one first."""
    config = ("--config", str(settings.config)) if settings.config else ()
    anywhere = "127.0.0.1:0"
    return (
        Part("runtime", "portway.runtime", (*_own(layout, "runtime"), *config), anywhere),
        Part("box", "portway.box", (*_own(layout, "box"), *config), anywhere, optional=True),
        Part(
            "host",
            "portway.server",
            (
                *("--data", str(layout.of("host"))),
                *(
                    "--runtime",
                    str(layout.ready_of("runtime")),
                    "--runtime-credential",
                    str(layout.credential("runtime")),
                ),
                *("--box", str(layout.ready_of("box")), "--box-credential", str(layout.credential("box"))),
                *("--admin-token-file", str(layout.admin_token), "--adapter-token-file", str(layout.adapter_token)),
                *config,
            ),
            f"{settings.bind}:{settings.port}",
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
        ),
    )


def _own(layout: Layout, part: str) -> tuple[str, ...]:
    return ("--data", str(layout.of(part)), "--credentials", str(layout.accepted(part)))
