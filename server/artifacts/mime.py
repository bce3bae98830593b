"""What kind of file some bytes are, as far as their beginning tells.

A small table instead of a library: it covers what chats send and what a browser would execute, each entry is one
published signature, and what is not in it keeps the type that its sender gave.
"""

import re
from dataclasses import dataclass

from portway.rpc.errors import InvalidInput

HEAD_BYTES = 4_096
UNKNOWN = "application/octet-stream"
TEXT = "text/plain"
_ZIP = "application/zip"
_FORM = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


@dataclass(frozen=True, slots=True)
class _Signature:
    mime_type: str
    start: bytes
    at: int = 0
    # Further bytes, after the four of a length: containers name their content there.
    then: bytes = b""
    then_at: int = 8


_SIGNATURES = (
    _Signature("image/png", b"\x89PNG\r\n\x1a\n"),
    _Signature("image/jpeg", b"\xff\xd8\xff"),
    _Signature("image/gif", b"GIF87a"),
    _Signature("image/gif", b"GIF89a"),
    _Signature("image/webp", b"RIFF", then=b"WEBP"),
    _Signature("image/bmp", b"BM"),
    _Signature("image/tiff", b"II*\x00"),
    _Signature("image/tiff", b"MM\x00*"),
    _Signature("image/x-icon", b"\x00\x00\x01\x00"),
    _Signature("image/avif", b"ftypavif", at=4),
    _Signature("image/heic", b"ftypheic", at=4),
    _Signature("image/heic", b"ftypmif1", at=4),
    _Signature("audio/wav", b"RIFF", then=b"WAVE"),
    _Signature("audio/mpeg", b"ID3"),
    _Signature("audio/mpeg", b"\xff\xfb"),
    _Signature("audio/mpeg", b"\xff\xf3"),
    _Signature("audio/mpeg", b"\xff\xf2"),
    _Signature("audio/aac", b"\xff\xf1"),
    _Signature("audio/aac", b"\xff\xf9"),
    _Signature("audio/ogg", b"OggS"),
    _Signature("audio/flac", b"fLaC"),
    _Signature("audio/amr", b"#!AMR"),
    _Signature("audio/silk", b"#!SILK_V3"),
    _Signature("audio/silk", b"\x02#!SILK_V3"),
    _Signature("audio/midi", b"MThd"),
    _Signature("audio/mp4", b"ftypM4A", at=4),
    _Signature("video/quicktime", b"ftypqt", at=4),
    _Signature("video/mp4", b"ftyp", at=4),
    _Signature("video/webm", b"\x1aE\xdf\xa3"),
    _Signature("video/x-msvideo", b"RIFF", then=b"AVI "),
    _Signature("application/pdf", b"%PDF-"),
    _Signature(_ZIP, b"PK\x03\x04"),
    _Signature(_ZIP, b"PK\x05\x06"),
    _Signature("application/gzip", b"\x1f\x8b"),
    _Signature("application/x-bzip2", b"BZh"),
    _Signature("application/x-xz", b"\xfd7zXZ\x00"),
    _Signature("application/zstd", b"\x28\xb5\x2f\xfd"),
    _Signature("application/x-7z-compressed", b"7z\xbc\xaf\x27\x1c"),
    _Signature("application/vnd.rar", b"Rar!\x1a\x07"),
    _Signature("application/x-executable", b"\x7fELF"),
    _Signature("application/vnd.microsoft.portable-executable", b"MZ"),
    _Signature("application/wasm", b"\x00asm"),
    _Signature("application/x-ole-storage", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    _Signature("application/vnd.sqlite3", b"SQLite format 3\x00"),
    _Signature("font/woff", b"wOFF"),
    _Signature("font/woff2", b"wOF2"),
)
# Formats that are one of the above to their signature: what the sender says is believed.
_INSIDE = {
    _ZIP: ("application/", "model/"),
    "application/gzip": ("application/",),
    "application/x-ole-storage": ("application/",),
    "audio/ogg": ("audio/", "video/ogg", "application/ogg"),
    "video/webm": ("video/", "audio/", "application/x-matroska"),
    "video/mp4": ("audio/mp4", "video/", "audio/", "image/", "application/mp4"),
    "audio/mp4": ("audio/", "video/mp4"),
    "image/heic": ("image/heif", "image/heic-sequence", "image/avif"),
    "image/tiff": ("image/",),
    "image/x-icon": ("image/vnd.microsoft.icon",),
    "audio/wav": ("audio/",),
    "audio/mpeg": ("audio/", "video/mpeg"),
    "audio/aac": ("audio/",),
    "audio/flac": ("audio/",),
    "audio/midi": ("audio/",),
    "image/bmp": ("image/",),
}
_CERTAIN = frozenset(one.mime_type for one in _SIGNATURES)
_SAME = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}
_NEVER_TEXT = ("image/", "audio/", "video/", "font/")


def checked_type(declared: str, head: bytes) -> str:
    """The MIME type of a file: its sender's word, checked against its first bytes (HEAD_BYTES of them).

    Raises InvalidInput where the bytes are something else: a page that calls itself a picture stays out.
    """
    wanted = declared.split(";")[0].strip().lower()
    wanted = _SAME.get(wanted, wanted)
    found = found_type(head)
    if not wanted or wanted == UNKNOWN:
        return found
    if not _FORM.fullmatch(wanted):
        raise InvalidInput.field("start.mime_type", f"{declared!r} is not a MIME type such as image/png")
    if _fits(wanted, found):
        return wanted
    raise InvalidInput.field(
        "start.mime_type",
        f"says {wanted}, and the bytes look like {found}. Send the right type, or none: then the bytes decide",
    )


def found_type(head: bytes) -> str:
    """What the first bytes look like; UNKNOWN where they tell nothing."""
    for signature in _SIGNATURES:
        end = signature.at + len(signature.start)
        if head[signature.at : end] == signature.start:
            then_end = signature.then_at + len(signature.then)
            if head[signature.then_at : then_end] == signature.then:
                return signature.mime_type
    return TEXT if _is_text(head) else UNKNOWN


def _fits(wanted: str, found: str) -> bool:
    if wanted == found:
        return True
    if found == UNKNOWN:
        # Bytes that have no known signature are not one of the types that always have one.
        return wanted not in _CERTAIN
    if found == TEXT:
        return wanted == "image/svg+xml" or not (wanted.startswith(_NEVER_TEXT) or wanted in _CERTAIN)
    inside = _INSIDE.get(found, ())
    # A type that has a signature of its own is believed only where it is named whole: an MP4 file may hold sound alone.
    return wanted in inside or (wanted not in _CERTAIN and wanted.startswith(inside))


def _is_text(head: bytes) -> bool:
    if not head or b"\x00" in head:
        return not head
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end inside of a character.
        return len(head) == HEAD_BYTES and error.start >= len(head) - 3
    return True
