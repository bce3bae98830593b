"""What a person types: all of it goes inside, but for `~.` at the beginning of a line, which leaves."""

from enum import Enum, auto

_ENTER = b"\r\n"


class Wish(Enum):
    """What to do after these keys."""

    GO_ON = auto()
    LEAVE = auto()


class Keys:
    """As ssh does it: after Enter a `~` is held until the next key; `~.` leaves, `~~` is one `~`."""

    def __init__(self) -> None:
        self._line_begins = True
        self._held = False

    def take(self, typed: bytes) -> tuple[bytes, Wish]:
        """What goes inside of it, and whether the person wants to leave."""
        inside = bytearray()
        for key in typed:
            if self._held:
                self._held = False
                if key == ord("."):
                    return bytes(inside), Wish.LEAVE
                inside += b"~" if key == ord("~") else b"~" + bytes([key])
            elif key == ord("~") and self._line_begins:
                self._held = True
                continue
            else:
                inside.append(key)
            self._line_begins = key in _ENTER
        return bytes(inside), Wish.GO_ON
