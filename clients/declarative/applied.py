"""What earlier applies did, in a file beside the declarations: what they made is all that is ever pruned."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from portway.clients.declarative.documents import Place
from portway.clients.declarative.kinds import KINDS
from portway.clients.supervisor.layout import write_private
from portway.rpc.errors import InvalidInput

Thing = tuple[str, str]
"""Kind and id."""


class Applied:
    """The things of one host. Names of fields, never their values."""

    def __init__(self, file: Path, host: str) -> None:
        self._file = file
        self._host = host
        try:
            self._all: dict[str, list[dict[str, Any]]] = json.loads(file.read_text(encoding="utf-8"))
            here = {(one["kind"], one["id"]): one for one in self._all.get(host, []) if one["kind"] in KINDS}
        except FileNotFoundError:
            self._all, here = {}, {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"{file}: is not what an apply wrote; name another with --state") from error
        self._things: dict[Thing, dict[str, Any]] = here
        self._written = json.dumps(self._all)

    def made(self) -> list[Thing]:
        """What an apply made."""
        return [thing for thing, one in self._things.items() if one["made"]]

    def places(self, thing: Thing) -> list[Place]:
        """Which fields the last apply said."""
        return [tuple(place) for place in self._things.get(thing, {}).get("fields", [])]

    def note(self, thing: Thing, places: Iterable[Place], *, made: bool) -> None:
        """It is as the file says now."""
        before = self._things.get(thing, {}).get("made", False)
        fields = [list(place) for place in places]
        self._things[thing] = {"kind": thing[0], "id": thing[1], "made": made or before, "fields": fields}

    def forget(self, thing: Thing) -> None:
        """It is gone."""
        self._things.pop(thing, None)

    def save(self) -> None:
        """Where something changed."""
        self._all[self._host] = [self._things[thing] for thing in sorted(self._things)]
        if json.dumps(self._all) != self._written:
            write_private(self._file, json.dumps(self._all, indent=1) + "\n")
