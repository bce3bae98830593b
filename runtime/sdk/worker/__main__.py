"""`python -m portway.runtime.sdk.worker`: a worker process for plugins in Python, started by the runtime."""

import os
import sys

from portway.runtime.sdk.worker.main import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
