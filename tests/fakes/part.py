"""A part for tests of the supervisor: writes its ready file and lives until it is told otherwise.

`--die-with CODE` ends at once; `--deaf` ignores SIGTERM.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--listen")
    arguments.add_argument("--ready-file", type=Path)
    arguments.add_argument("--die-with", type=int)
    arguments.add_argument("--deaf", action="store_true")
    given = arguments.parse_args()
    if given.die_with is not None:
        sys.exit(given.die_with)
    if given.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    temporary = given.ready_file.with_suffix(".new")
    temporary.write_text(json.dumps({"address": given.listen.replace(":0", ":4242"), "pid": os.getpid()}))
    temporary.rename(given.ready_file)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
