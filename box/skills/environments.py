"""Python environments of skills, made by a command inside the session: nothing of a skill runs anywhere else."""

import json
from dataclasses import dataclass

from portway.box.backends.types import SKILLS, ExitStatus, Network
from portway.box.processes.run import CommandRunner, RunRequest
from portway.box.processes.types import CommandRequest
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.types import SessionRef
from portway.rpc.errors import DeadlineExceeded, NotFound, Unavailable, WrongState

FOLDER = "/workspace/.skill-environments"
MAKING_SECONDS = 120.0
_OUTPUT_BYTES = 8000
_SAID_CHARS = 1500

# What is installed decides the name, so that a changed skill with the same needs finds its environment.
_PROGRAM = r"""
import fcntl, hashlib, json, os, shutil, subprocess, sys
skill, folder, name, network = sys.argv[1:]

def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(3)

def needs():
    requirements, project = (os.path.join(skill, one) for one in ("requirements.txt", "pyproject.toml"))
    if os.path.exists(requirements):
        return open(requirements, encoding="utf-8").read()
    if not os.path.exists(project):
        return None
    try:
        import tomllib
    except ImportError:
        fail("pyproject.toml needs Python 3.11 or later in the session; give the skill a requirements.txt")
    with open(project, "rb") as file:
        try:
            return "\n".join(tomllib.load(file).get("project", {}).get("dependencies", []))
        except (tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
            fail("pyproject.toml cannot be read: %s" % error)

wanted = needs()
if wanted is None:
    print(json.dumps({"environment": "", "existed": False}))
    sys.exit(0)
wheels = os.path.join(skill, "wheels")
stored = sorted((one.name, one.stat().st_size) for one in os.scandir(wheels)) if os.path.isdir(wheels) else []
digest = hashlib.sha256(json.dumps([sys.version, wanted, stored]).encode()).hexdigest()[:16]
place = os.path.join(folder, "%s-%s" % (name, digest))
os.makedirs(folder, exist_ok=True)
with open(place + ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = os.path.join(place, ".complete")
    existed = os.path.exists(done)
    if not existed:
        shutil.rmtree(place, ignore_errors=True)
        room = place + ".building"
        shutil.rmtree(room, ignore_errors=True)
        os.makedirs(room)
        listed = os.path.join(room, "requirements.txt")
        open(listed, "w", encoding="utf-8").write(wanted)
        environment = dict(os.environ, TMPDIR=room, PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
        made = subprocess.run([sys.executable, "-m", "venv", place], env=environment, stdin=subprocess.DEVNULL)
        if made.returncode:
            fail("no Python environment can be made here: python3-venv, or its pip, is not installed on the machine")
        install = [os.path.join(place, "bin", "python"), "-m", "pip", "install", "--no-cache-dir", "--quiet"]
        install += [] if network == "on" else ["--no-index"]
        install += ["--find-links", wheels] if stored else []
        made = subprocess.run([*install, "-r", listed], env=environment, stdin=subprocess.DEVNULL, cwd=skill)
        shutil.rmtree(room, ignore_errors=True)
        if made.returncode:
            shutil.rmtree(place, ignore_errors=True)
            if network != "on":
                fail("The session has no network: put wheels of all that it needs into the skill's folder `wheels`.")
            sys.exit(3)
        open(done, "w").close()
print(json.dumps({"environment": place, "existed": existed}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """`path` is absolute inside; '' for a skill that needs none."""

    path: str
    existed: bool


class SkillEnvironments:
    """Makes environments on first use."""

    def __init__(self, sessions: SessionDirectory, runner: CommandRunner, seconds: float = MAKING_SECONDS) -> None:
        self._sessions = sessions
        self._runner = runner
        self._seconds = seconds

    async def prepare(self, ref: SessionRef, name: str) -> Environment:
        spec = self._sessions.get(ref).spec
        if name not in {skill.name for skill in spec.skills}:
            raise NotFound.of("skill of the session", name)
        seconds = min(self._seconds, spec.command_timeout)
        network = "off" if spec.network.mode is Network.OFF else "on"
        argv = ("/usr/bin/python3", "-I", "-c", _PROGRAM, f"{SKILLS}/{name}", FOLDER, name, network)
        command = CommandRequest(argv=argv, timeout=seconds)
        result = await self._runner.once(RunRequest(ref, command, output_limit=_OUTPUT_BYTES))
        said = result.output.stderr.decode(errors="replace").strip()[-_SAID_CHARS:]
        what = f"the Python environment of the skill {name!r}"
        match result.exit.status:
            case ExitStatus.TIMED_OUT:
                raise DeadlineExceeded(f"{what} was not made within {seconds:g} s: {said}")
            case ExitStatus.COMPLETED if result.exit.exit_code == 0:
                return _environment(result.output.stdout)
            case ExitStatus.OUT_OF_MEMORY:
                raise WrongState(f"{what} cannot be made: the session's memory was used up")
            case _:
                raise WrongState(f"{what} cannot be made: {said or 'the installer ended without a word'}")


def _environment(stdout: bytes) -> Environment:
    """The last line; what stands before is the installer's."""
    try:
        told = json.loads(stdout.splitlines()[-1])
        return Environment(str(told["environment"]), bool(told["existed"]))
    except (ValueError, KeyError, IndexError, TypeError):
        raise Unavailable("the command that makes Python environments did not say where it is") from None
