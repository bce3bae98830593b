"""What every server and client of Portway shares: errors by meaning, the gate of calls, serving, channels, logs."""

import os

# The C core writes to standard error what each call is told anyway, such as a server that went away. It reads this when
# it is loaded, so it stands before the first import of grpc.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
