"""`python -m portway.adapters.web_chat`: the web chat as a process of its own."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import uvloop

from portway.adapters.kit.link import LinkEnded
from portway.adapters.web_chat.app import Options, run
from portway.adapters.web_chat.settings import WebSettings
from portway.rpc.configuration import EXIT_CODE, ConfigurationError, load
from portway.rpc.log_config import start_logging
from portway.rpc.supervised import follow_supervisor

REPLACED = 3
"""What the process ends with when the host does not want this adapter any more."""


def main() -> int:
    arguments = _parser().parse_args()
    follow_supervisor(os.environ)
    options = Options(arguments.host, arguments.token_file, arguments.data, arguments.ready_file)
    try:
        start_logging("web_chat", arguments.config, os.environ)
        settings = load(
            WebSettings,
            "web",
            file=arguments.config,
            environment=os.environ,
            flags={"listen": arguments.listen, "adapter_id": arguments.adapter_id},
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, options))
    except ConfigurationError as error:
        print(f"portway web chat: {error}", file=sys.stderr)
        return EXIT_CODE
    except LinkEnded as error:
        print(f"portway web chat: {error}", file=sys.stderr)
        return REPLACED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portway adapter web_chat", description="Serve the web chat.")
    parser.add_argument("--host", required=True, help="address of the host, or the path of its ready file")
    parser.add_argument("--token-file", required=True, type=Path, help="file with this adapter's token")
    parser.add_argument("--data", required=True, type=Path, help="folder for the web key")
    parser.add_argument("--listen", help="address:port; port 0 picks a free one")
    parser.add_argument("--ready-file", type=Path, help="JSON file that is written when the page is served")
    parser.add_argument("--adapter-id", help="stable id of this adapter; two processes must not share one")
    parser.add_argument("--config", type=Path, help="configuration file (YAML); section `web`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
