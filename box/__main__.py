"""`python -m portway.box`: the box server as a process."""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from portway.box.app import Box
from portway.box.backends.namespace.machine import Machine
from portway.box.config import BoxConfig
from portway.rpc.configuration import EXIT_CODE, ConfigurationError, check_environment, load
from portway.rpc.errors import PortwayError
from portway.rpc.log_config import start_logging
from portway.rpc.supervised import follow_supervisor
from portway.rpc.traces.config import TelemetryConfig

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")
CANNOT_START = 1


def main(arguments: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(arguments)
    follow_supervisor(os.environ)
    try:
        start_logging("box", flags.config, os.environ, flags.log_level)
        config = _read_config(flags)
        telemetry = load(TelemetryConfig, "telemetry", file=flags.config, environment=os.environ)
        asyncio.run(_run(config, telemetry, flags.ready_file))
    except ConfigurationError as error:
        print(f"portway box: {error}", file=sys.stderr)
        return EXIT_CODE
    except PortwayError as error:
        print(f"portway box: {error.message}", file=sys.stderr)
        return CANNOT_START
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="portway box",
        description="Runs commands in isolated sessions and serves them over gRPC.",
        epilog="Every setting can also be given in the section `box` of the file, or as PORTWAY__BOX__<NAME>.",
    )
    parser.add_argument("--listen", metavar="ADDRESS", help="host:port, port 0 for any, or unix:/path (127.0.0.1:7702)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the box's own folder, used by one box at a time")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="JSON file of accepted tokens, mode 0600")
    parser.add_argument("--pass-keys", type=Path, metavar="FILE", help="a host's public keys, for tokens that it signs")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with a section `box`")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written with the address when the box serves")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    return parser


def _read_config(flags: argparse.Namespace) -> BoxConfig:
    check_environment(os.environ)
    given = {"listen": flags.listen, "data": flags.data, "credentials": flags.credentials, "pass_keys": flags.pass_keys}
    config = load(BoxConfig, "box", file=flags.config, environment=os.environ, flags=given)
    if config.tls is None and not config.insecure_public_listen and not config.listen.startswith(_LOOPBACK):
        raise ConfigurationError(
            f"`box.listen` {config.listen} can be reached from other machines and has no TLS: set `box.tls`, listen on "
            "127.0.0.1, or say `box.insecure_public_listen: true` if you mean it"
        )
    return config


async def _run(config: BoxConfig, telemetry: TelemetryConfig, ready_file: Path | None) -> None:
    # Three descriptors a session and five a command add up.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if Machine.look().root:
        # File work is done as a session's user and group; the groups of whoever started the box would come with it.
        os.setgroups([])
    box = Box(config, telemetry)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, box.stopping.set)
    async with box.serving() as server:
        if ready_file is not None:
            _write_ready(ready_file, server.address)
        structlog.get_logger().info("serving", address=server.address)
        await box.stopping.wait()
        structlog.get_logger().info("draining")


def _write_ready(file: Path, address: str) -> None:
    writing = file.with_name(f"{file.name}.new")
    writing.write_text(json.dumps({"address": address, "pid": os.getpid()}), encoding="utf-8")
    writing.rename(file)


if __name__ == "__main__":
    sys.exit(main())
