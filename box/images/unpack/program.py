"""The process that unpacks one import: reads the stream from its input, writes beneath one directory, tells the result.

It has nothing else: no rights, no network, the system call filter of sandboxes, bounds on memory and file size. What is
wrong with a stream ends this process and touches nothing of the server.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import asdict, replace
from typing import Any

from portway.box.images.unpack.defaults import environment_of
from portway.box.images.unpack.finish import MOUNT_POINTS, furnish, measure
from portway.box.images.unpack.layers import Archive, is_archive
from portway.box.images.unpack.streams import open_stream
from portway.box.images.unpack.tar import entries
from portway.box.images.unpack.terms import ROOT, Bounds, Budget, Measured, Refused
from portway.box.images.unpack.tree import DIRECTORY_MODE, Tree, remove_all
from portway.box.isolation import syscalls

_CONTENT = "content"
_MEMORY = 1024 * 1024 * 1024
_OPEN_FILES = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def main() -> None:
    """Arguments: settings as JSON. Descriptors: 0 the stream, 1 where the result goes, `place` the directory."""
    settings: dict[str, Any] = json.loads(sys.argv[2])
    place: int = settings["place"]
    _confine(settings)
    bounds = Bounds(**settings["bounds"])
    try:
        measured, notes = unpack(0, place, bounds)
        result: dict[str, Any] = {"measured": asdict(measured), "notes": notes}
    except Refused as refused:
        result = {"refused": str(refused), "kind": refused.kind}
    except MemoryError:
        result = {"refused": "unpacking it needs too much memory", "kind": "size"}
    os.write(1, json.dumps(result).encode())


def _confine(settings: dict[str, Any]) -> None:
    syscalls.set_parent_death_signal(signal.SIGKILL)
    os.umask(0)
    largest = settings["bounds"]["max_bytes"]
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _soft, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    user = settings["user"]
    if user is not None:
        syscalls.drop_bounding_set()
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        # A change of user forgets it.
        syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.drop_capabilities()
    syscalls.set_no_new_privileges()
    for program in settings["filters"]:
        syscalls.load_filter(bytes.fromhex(program))


def unpack(stream: int, place: int, bounds: Bounds) -> tuple[Measured, list[str]]:
    """Unpacks to `root` in the open directory `place`. Raises `Refused`; what was written then is the caller's."""
    budget = Budget(bounds)
    config: Any = None
    os.mkdir(_CONTENT, DIRECTORY_MODE, dir_fd=place)
    content = os.open(_CONTENT, _DIRECTORY, dir_fd=place)
    try:
        tree = Tree(content, budget, frozenset(MOUNT_POINTS))
        source = open_stream(stream, budget)
        for entry, body in entries(source):
            tree.put(entry, body)
        source.drain()
        tree.close()
        if is_archive(os.listdir(content)):
            tree, config = _from_layers(content, place, budget)
        else:
            os.rename(_CONTENT, ROOT, src_dir_fd=place, dst_dir_fd=place)
    finally:
        os.close(content)
    root = os.open(ROOT, _DIRECTORY, dir_fd=place)
    try:
        if not os.listdir(root):
            raise Refused("it is empty")
        furnish(root)
        measured = measure(root)
        syscalls.sync_file_system(root)
    finally:
        os.close(root)
    env, odd = environment_of(config)
    left_out = dict(tree.left_out) | ({"variables that are no plain text, or too many": odd} if odd else {})
    notes = [f"{count} × {what}" for what, count in sorted(left_out.items())]
    return replace(measured, env=env), notes


def _from_layers(content: int, place: int, budget: Budget) -> tuple[Tree, Any]:
    os.mkdir(ROOT, DIRECTORY_MODE, dir_fd=place)
    root = os.open(ROOT, _DIRECTORY, dir_fd=place)
    try:
        tree = Tree(root, budget, frozenset(MOUNT_POINTS))
        config = Archive(content, budget).apply(tree)
        tree.close()
    finally:
        os.close(root)
    remove_all(place, _CONTENT)
    return tree, config
