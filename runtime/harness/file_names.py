"""Names of files that came from elsewhere, made safe for a folder."""

import unicodedata

_LONGEST_BYTES = 120
_REFUSED = frozenset('/\\:*?"<>|')


def safe_name(name: str, taken: set[str]) -> str:
    """A plain name in one folder, unlike any in `taken` also where case does not count; it is added there.

    No folder, no leading dot or dash, nothing that does not print, at most 120 bytes with its extension kept.
    """
    plain = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    plain = "".join(one if one.isprintable() and one not in _REFUSED else "_" for one in plain).strip(" .-")
    stem, dot, extension = (plain or "file").rpartition(".")
    if not dot or not stem or len(extension.encode()) > 16:
        stem, extension = plain or "file", ""
    end = f".{extension}" if extension else ""
    for number in range(1, len(taken) + 2):
        extra = f"-{number}{end}" if number > 1 else end
        made = _cut(stem, _LONGEST_BYTES - len(extra.encode())) + extra
        if made.casefold() not in taken:
            taken.add(made.casefold())
            return made
    raise AssertionError("so many names cannot all be taken")


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")
