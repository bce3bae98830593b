"""Stands in for `grpcurl` where it is not installed: the same arguments, by `buf curl`, which also knows nothing but
reflection: grpcurl.py [-plaintext] [-H HEADER]… [-d DATA] ADDRESS METHOD. The real one runs in `make test-heavy`.
"""

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    headers: list[str] = []
    data, rest = "", []
    words = iter(arguments)
    for word in words:
        if word == "-H":
            headers.append(next(words))
        elif word == "-d":
            data = next(words)
            data = sys.stdin.read() if data == "@" else data
        elif word != "-plaintext":
            rest.append(word)
    address, method = rest
    command = [str(Path(sys.executable).parent / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    for header in headers:
        command += ["-H", header, "--reflect-header", header]
    os.execv(command[0], [*command, "-d", data or "{}", f"http://{address}/{method}"])


if __name__ == "__main__":
    main(sys.argv[1:])
