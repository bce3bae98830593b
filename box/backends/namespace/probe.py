"""What is measured inside a sandbox at start: each attempt tells what it saw, and whether it was contained."""

import asyncio
import shlex

from portway.box.backends.interface import RunningCommand, Sandbox, Stream
from portway.box.backends.types import CommandSpec, IsolationProbe
from portway.rpc.errors import Unavailable

PROBE_SECONDS = 20.0
_ALIVE = "the sandbox runs"

# One attempt a line: `say NAME contained|open TEXT`. Only the shell and what every system has are used.
_SCRIPT = r"""
say() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
field() { while read -r key value rest; do [ "$key" = "$1:" ] && echo "$value"; done < /proc/self/status; }
refused() { name=$1; shift; if "$@" 2>/dev/null >/dev/null; then say "$name" open "succeeded"; else say "$name" contained "refused"; fi; }
equal() { if [ "$2" = "$3" ]; then say "$1" contained "$2"; else say "$1" open "$2"; fi; }
say "the sandbox runs" contained "yes"
equal "effective capabilities" "$(field CapEff)" 0000000000000000
equal "bounding capabilities" "$(field CapBnd)" 0000000000000000
equal "no new privileges" "$(field NoNewPrivs)" 1
equal "system call filter" "$(field Seccomp)" 2
equal "environment of the first process" "$(tr '\0' ' ' < /proc/1/environ)" ""
equal "network interfaces" "$(for each in $(sed -n 's/^ *\([^:]*\):.*/\1/p' /proc/net/dev); do printf '%s ' "$each"; done)" "lo "
refused "write to the root" touch /probe
refused "write to /usr" touch /usr/probe
refused "write to /etc" touch /etc/probe
refused "write to /proc/sys" sh -c 'echo 1 > /proc/sys/kernel/panic'
refused "read the machine's /root" ls /root
refused "read the machine's /home" ls /home
refused "read kernel memory" head -c 1 /proc/kcore
refused "mount" mount -t tmpfs none /tmp
refused "new user namespace" unshare -U true
refused "make a device" mknod /tmp/probe-device c 1 3
count=0; for each in /proc/[0-9]*; do count=$((count + 1)); done
if [ "$count" -lt 8 ]; then say "processes in sight" contained "$count"; else say "processes in sight" open "$count"; fi
"""  # noqa: E501


_HOMES = """refused "read the machine's /root" ls /root
refused "read the machine's /home" ls /home
"""


async def measure(sandbox: Sandbox, folder: str = "") -> tuple[IsolationProbe, ...]:
    """Runs the attempts. Raises `Unavailable` where not even the first line came: then nothing was measured.

    `folder` is one of the machine, to be looked for where the sandbox's root is an image with homes of its own.
    """
    instead = f'refused "read a folder of the machine" ls {shlex.quote(folder)}\n'
    script = _SCRIPT.replace(_HOMES, instead) if folder else _SCRIPT
    command = CommandSpec(
        ("/bin/sh", "-c", script), env=(("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),), wants_input=False
    )
    running = await sandbox.start(command)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            said, errors = await asyncio.gather(_all(running, Stream.STDOUT), _all(running, Stream.STDERR))
            await running.wait()
    except TimeoutError:
        raise Unavailable(f"a sandbox was started and did not answer within {PROBE_SECONDS:.0f} s") from None
    finally:
        await running.close()
    probes = tuple(_parsed(line) for line in said.decode(errors="replace").splitlines() if line.count("\t") == 2)
    if not any(probe.name == _ALIVE for probe in probes):
        raise Unavailable(f"a sandbox was started and said nothing: {errors.decode(errors='replace').strip()[:500]}")
    return probes


def _parsed(line: str) -> IsolationProbe:
    name, verdict, message = line.split("\t")
    return IsolationProbe(name, verdict == "contained", message)


async def _all(running: RunningCommand, stream: Stream) -> bytes:
    collected = b""
    while data := await running.read(stream, 65_536):
        collected += data
    return collected
