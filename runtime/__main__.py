"""`python -m portway.runtime`: the plugin runtime as a process of its own."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from portway.rpc.configuration import EXIT_CODE, ConfigurationError, load
from portway.rpc.errors import PortwayError
from portway.rpc.log_config import start_logging
from portway.rpc.supervised import follow_supervisor
from portway.rpc.token_file import TokenFile
from portway.rpc.traces.config import TelemetryConfig
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig

_REFUSED = 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="portway runtime", description="Keeps plugins and runs what they bring.")
    parser.add_argument("--config", type=Path, help="configuration file; its section `runtime` is read")
    parser.add_argument("--listen", help="HOST:PORT, port 0 for a free one (default 127.0.0.1:0)")
    parser.add_argument("--data", type=Path, help="folder for what the runtime keeps")
    parser.add_argument("--credentials", type=Path, help="file with the service tokens that are accepted")
    parser.add_argument(
        "--plugins", type=Path, nargs="*", help="folders with plugins, besides those of the installation"
    )
    parser.add_argument("--ready-file", type=Path, help="written when everything serves: JSON with `address` and `pid`")
    return parser.parse_args(argv)


def _config(arguments: argparse.Namespace) -> RuntimeConfig:
    flags = {
        "listen": arguments.listen,
        "data": arguments.data,
        "credentials": arguments.credentials,
        "plugins": tuple(arguments.plugins) if arguments.plugins is not None else None,
    }
    config = load(RuntimeConfig, "runtime", file=arguments.config, environment=os.environ, flags=flags)
    if config.credentials is None:
        raise ConfigurationError(
            "runtime.credentials is missing: `portway up` writes such a file; pass it with --credentials FILE"
        )
    return config


async def _serve(
    config: RuntimeConfig, telemetry: TelemetryConfig, authenticator: TokenFile, ready_file: Path | None
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with run_runtime(config, authenticator, authenticator.check_standing, telemetry) as server:
        if ready_file is not None:
            await asyncio.to_thread(_write_ready_file, ready_file, server.address)
        await stop.wait()


def _write_ready_file(path: Path, address: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps({"address": address, "pid": os.getpid()}) + "\n", encoding="utf-8")
    unfinished.replace(path)


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    follow_supervisor(os.environ)
    try:
        start_logging("runtime", arguments.config, os.environ)
        config = _config(arguments)
        telemetry = load(TelemetryConfig, "telemetry", file=arguments.config, environment=os.environ)
        assert config.credentials is not None, "_config refuses a configuration without it"
        authenticator = TokenFile(config.credentials)
    except ConfigurationError as error:
        print(f"portway runtime: {error}", file=sys.stderr)
        return EXIT_CODE
    try:
        uvloop.run(_serve(config, telemetry, authenticator, arguments.ready_file))
    except PortwayError as error:
        print(f"portway runtime: {error.message}", file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
