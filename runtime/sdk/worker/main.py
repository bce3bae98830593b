"""The life of a worker process for plugins in Python."""

import os
import sys
import traceback
from collections.abc import Mapping

from portway.runtime.sdk.worker.output import mark_output
from portway.runtime.sdk.worker.server import serve
from portway.runtime.sdk.worker.settings import UnusableCode, WorkerSettings

EXIT_UNUSABLE = 3


def main(environment: Mapping[str, str]) -> int:
    """The exit code. The plugin's folder is the current one; its modules are imported from there."""
    mark_output()
    sys.path.insert(0, os.getcwd())
    try:
        serve(WorkerSettings.from_environment(environment))
    except UnusableCode as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    except Exception:  # noqa: BLE001 - the outermost place of the process: the log says why it ends
        traceback.print_exc()
        return EXIT_UNUSABLE
    return 0
