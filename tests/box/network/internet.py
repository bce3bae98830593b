"""A stand-in for the internet: another network namespace, with a cable to it. Nothing leaves the machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SERVERS = Path(__file__).with_name("internet_servers.py")
_PLACES = 4096


@dataclass(frozen=True, slots=True)
class Internet:
    """`public` and `denied` are servers over there, `own` is this machine's end of the cable."""

    network: str
    own: str
    public: str
    denied: str


def why_no_internet() -> str:
    """Why there cannot be one here; empty where there can."""
    if os.geteuid() != 0:
        return "a network namespace with a cable to it needs a test run as root"
    if shutil.which("ip") is None:
        return "the program `ip` is not installed (package iproute2)"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"network namespaces are refused here: {tried.stderr.decode().strip()}"


@contextmanager
def internet() -> Iterator[Internet]:
    """One of the test's own. Addresses are of 198.18.0.0/15, which is for such tests and never routed."""
    name = f"pwnet{os.getpid()}"
    place = os.getpid() % _PLACES
    base = f"198.18.{place // 32}.{place % 32 * 8}"
    network, *hosts = f"{base}/29", *(f"{base.rpartition('.')[0]}.{place % 32 * 8 + number}" for number in (1, 2, 3))
    own, public, denied = hosts
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"v{name}", "type", "veth", "peer", "name", "cable", "netns", name)
        _ip("addr", "add", f"{own}/29", "dev", f"v{name}")
        _ip("link", "set", f"v{name}", "up")
        for address in (public, denied):
            _ip("-n", name, "addr", "add", f"{address}/29", "dev", "cable")
        for device in ("lo", "cable"):
            _ip("-n", name, "link", "set", device, "up")
        program = ["ip", "netns", "exec", name, sys.executable, str(_SERVERS), public, denied]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as servers:
            try:
                assert servers.stdout is not None
                assert servers.stdout.readline() == b"ready\n"
                yield Internet(network, own, public, denied)
            finally:
                servers.kill()
    finally:
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
