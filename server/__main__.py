"""`python -m portway.server`: the host as a process of its own."""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
import uvloop

from portway.rpc.configuration import EXIT_CODE, ConfigurationError
from portway.rpc.errors import InvalidInput, PortwayError
from portway.rpc.log_config import start_logging
from portway.rpc.supervised import follow_supervisor
from portway.server.app import run_host
from portway.server.config import Config, read_config

_REFUSED = 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="portway host", description="Takes events in, runs agents, keeps everything.")
    parser.add_argument("--config", type=Path, help="configuration file")
    parser.add_argument("--data", type=Path, help="folder for everything that the host keeps")
    parser.add_argument("--listen", help="HOST:PORT, port 0 for a free one (default 127.0.0.1:7700)")
    parser.add_argument("--http-default", help="HOST:PORT for HTTP where the settings name none")
    parser.add_argument("--runtime", help="the plugin runtime: HOST:PORT, or the path of its ready file")
    parser.add_argument("--runtime-credential", type=Path, help="file with the token for the runtime")
    parser.add_argument("--box", help="the box: HOST:PORT, or the path of its ready file")
    parser.add_argument("--box-credential", type=Path, help="file with the token for the box")
    parser.add_argument("--admin-token-file", type=Path, help="where the first administrator's token is written")
    parser.add_argument("--adapter-token-file", type=Path, help="where the bundled web chat's token is written")
    parser.add_argument("--admins-file", type=Path, help="where other servers find whose tokens are administrators'")
    parser.add_argument("--pass-keys-file", type=Path, help="where the box finds the public keys of signed tokens")
    parser.add_argument("--ready-file", type=Path, help="written when everything serves: JSON with `address` and `pid`")
    return parser.parse_args(argv)


def _config(arguments: argparse.Namespace) -> Config:
    flags: Mapping[str, object] = {
        name: getattr(arguments, name)
        for name in (
            "data",
            "listen",
            "runtime",
            "runtime_credential",
            "box",
            "box_credential",
            "admin_token_file",
            "adapter_token_file",
            "admins_file",
            "pass_keys_file",
        )
    }
    config = read_config(arguments.config, os.environ, flags)
    if config.host.http_listen or not arguments.http_default:
        return config
    return dataclasses.replace(config, host=dataclasses.replace(config.host, http_listen=arguments.http_default))


async def _serve(config: Config, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log = structlog.get_logger("portway.host")
    async with run_host(config) as host:
        address = host.server.address
        log.info("the host serves", address=address, data=str(config.host.data), epoch=host.parts.stores.database.epoch)
        if ready_file is not None:
            await asyncio.to_thread(_write_ready_file, ready_file, address)
        await stop.wait()
        log.info("the host stops")
    if ready_file is not None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(ready_file.unlink, True)


def _write_ready_file(path: Path, address: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps({"address": address, "pid": os.getpid()}) + "\n", encoding="utf-8")
    unfinished.replace(path)


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    follow_supervisor(os.environ)
    try:
        start_logging("host", arguments.config, os.environ)
        # What the file declares is checked only where the models are known, so settings can be wrong later too.
        uvloop.run(_serve(_config(arguments), arguments.ready_file))
    except (PortwayError, ConfigurationError, BaseExceptionGroup) as error:
        problem = _first(error)
        if not isinstance(problem, PortwayError | ConfigurationError):
            raise
        print(f"portway host: {problem}", file=sys.stderr)
        return EXIT_CODE if isinstance(problem, InvalidInput | ConfigurationError) else _REFUSED
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
