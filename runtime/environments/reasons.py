"""What an installer's complaint means to the author or operator of a plugin, and what they can do."""

import re
from collections.abc import Sequence

from portway.rpc.redaction import redact_text
from portway.runtime.environments import sdk
from portway.runtime.plugins.types import Requirements

MAX_CHARS = 700
_UNREACHABLE = ("failed to fetch", "error sending request", "dns error", "connection refused", "tcp connect error")
_UNBUILT = (
    "no usable wheels",
    "has no wheels",
    "no wheels with a matching",
    "building source distributions",
    "no-build",
)
_WHEELS_ADVICE = "put a wheel of it into the plugin's folder wheels/ (`pip download -d wheels -r requirements.txt`)"


def is_missing(lines: Sequence[str]) -> bool:
    """Whether it complains of something that is not there, so that it may be found elsewhere."""
    text = " ".join(lines).lower()
    return "no solution found" in text and "hash" not in text


def why_not(lines: Sequence[str], requirements: Requirements, *, offline: bool) -> str:
    """A sentence from what the installer printed."""
    said = _shortened(lines)
    text = said.lower()
    named = _named(text, requirements)
    about = f"{named}: " if named else ""
    return f"{about}{_meaning(text, offline)} ({said})"


def _meaning(text: str, offline: bool) -> str:
    if any(sign in text for sign in _UNREACHABLE):
        return f"the package index cannot be reached; set runtime.environments.index, or {_WHEELS_ADVICE}"
    if "hash" in text and ("mismatch" in text or "--require-hashes" in text):
        return "a file has another hash than the requirements allow, or none is given; make the list of hashes again"
    if any(sign in text for sign in _UNBUILT):
        return f"there is no wheel for this Python and machine, and nothing is built here; {_WHEELS_ADVICE}"
    if "no space left" in text or "disk quota" in text:
        return "the disk is full; make room in the runtime's data folder"
    if "not found in the package registry" in text or "not found in the provided package locations" in text:
        where = "in the wheels that are there" if offline or "provided package" in text else "in the package index"
        return f"is not found {where}; correct its name, or {_WHEELS_ADVICE}"
    if shared := next((one for one in sdk.constraints().split() if one in text), ""):
        return f"the SDK in the same process needs {shared}; allow this version"
    if "unsatisfiable" in text or "no solution" in text:
        return "the requirements cannot be met together; change the versions that are named"
    return "it could not be installed"


def _named(text: str, requirements: Requirements) -> str:
    """The requirement that the complaint is about: the first one of them that it names."""
    for one in requirements.packages:
        if re.search(rf"(?<![a-z0-9-]){re.escape(one.name)}(?![a-z0-9-])", text.replace("_", "-")):
            return one.text
    return requirements.packages[0].text if len(requirements.packages) == 1 else ""


def _shortened(lines: Sequence[str]) -> str:
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("Using Python")]
    said = redact_text("; ".join(kept)) or "it said nothing"
    return said if len(said) <= MAX_CHARS else f"{said[: MAX_CHARS - 1]}…"
