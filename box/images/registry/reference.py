"""References of images in registries, as people write them, and which of them an operator allows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from portway.rpc.errors import InvalidInput

DEFAULT_REGISTRY, _DEFAULT_FOLDER, _DEFAULT_TAG = "docker.io", "library", "latest"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")
_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference in its parts. `registry` is a host, perhaps with a port; `digest` is empty where none is pinned."""

    written: str
    registry: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def of(cls, text: str) -> "Reference":
        """Raises `InvalidInput` with what is wrong."""
        rest, pinned, digest = text.partition("@")
        if len(text) > _LONGEST:
            raise _wrong(f"has more than {_LONGEST} characters")
        if pinned and not _DIGEST.fullmatch(digest):
            raise _wrong("has something other than `sha256:` and 64 hexadecimal digits after `@`")
        registry, slash, path = rest.partition("/")
        if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
            registry, path = DEFAULT_REGISTRY, rest
        path, colon, tag = path.partition(":")
        if not _HOST.fullmatch(registry):
            raise _wrong("begins with what is no host of a registry")
        if not path or not all(_PART.fullmatch(part) for part in path.split("/")):
            raise _wrong("needs a name of lower-case letters, digits, `.`, `_`, `-`, in parts between `/`")
        if colon and not _TAG.fullmatch(tag):
            raise _wrong("has a tag that is none: letters, digits, `.`, `_`, `-`, at most 128")
        if registry == DEFAULT_REGISTRY and "/" not in path:
            path = f"{_DEFAULT_FOLDER}/{path}"
        return cls(text, registry, path, tag or ("" if digest else _DEFAULT_TAG), digest)

    @property
    def full(self) -> str:
        """The one form of all ways to write it."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    def pinned(self, digest: str) -> str:
        """What this reference stands for once its manifest is known."""
        return f"{self.registry}/{self.repository}@{digest}"

    def is_allowed(self, patterns: Sequence[str]) -> bool:
        """`*` in a pattern stands for anything, but not for a registry: that is written out, or left out for short
        names."""
        return any(
            fnmatchcase(text, pattern)
            for pattern in patterns
            for text in (self.written, self.full)
            if ("/" in pattern) == ("/" in text)
        )


def check_pattern(pattern: str) -> None:
    """Raises `ValueError` for a pattern that would leave the choice of the registry to who asks."""
    host, slash, _path = pattern.partition("/")
    if not pattern or (slash and any(sign in host for sign in "*?[")):
        raise ValueError(f"`images.allow`: {pattern!r} must name its registry, such as `registry.example.org/team/*`")


def _wrong(text: str) -> InvalidInput:
    return InvalidInput.field("reference", f"{text}; write it like `debian:12` or `registry.example.org/team/tools:3`")
