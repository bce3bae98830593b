"""What the first bytes tell, and which claims they contradict."""

import pytest

from portway.rpc.errors import InvalidInput
from portway.server.artifacts.mime import HEAD_BYTES, checked_type, found_type

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
ZIP = b"PK\x03\x04\x14\x00"
MP4 = b"\x00\x00\x00\x18ftypisom"
OGG = b"OggS\x00\x02"
HTML = b"<html><script>alert(1)</script>"


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (b"GIF89a\x01", "image/gif"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"%PDF-1.7", "application/pdf"),
        (ZIP, "application/zip"),
        (MP4, "video/mp4"),
        (b"\x7fELF\x02", "application/x-executable"),
        (HTML, "text/plain"),
        ("Grüße, 你好".encode(), "text/plain"),
        (b"", "text/plain"),
        (b"\x00\x01\x02\x03", "application/octet-stream"),
        (b"\xc3\x28 not utf-8", "application/octet-stream"),
    ],
)
def test_the_first_bytes_tell_the_type(head: bytes, found: str) -> None:
    assert found_type(head) == found
    assert checked_type("", head) == found
    assert checked_type("application/octet-stream", head) == found


def test_a_text_whose_head_ends_inside_a_character_is_a_text() -> None:
    text = ("a" * (HEAD_BYTES - 1) + "你").encode()
    assert found_type(text[:HEAD_BYTES]) == "text/plain"


@pytest.mark.parametrize(
    ("declared", "head", "kept"),
    [
        ("image/png", PNG, "image/png"),
        ("IMAGE/JPG; q=1", JPEG, "image/jpeg"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ZIP, None),
        ("application/epub+zip", ZIP, None),
        ("audio/mp4", MP4, "audio/mp4"),
        ("audio/ogg", OGG, None),
        ("video/ogg", OGG, None),
        ("text/markdown", b"# hello", None),
        ("application/json", b'{"a": 1}', None),
        ("image/svg+xml", b"<svg></svg>", None),
        ("application/x-something", b"\x00\x01", None),
        ("text/csv; charset=gbk", b"\xc4\xe3\xba\xc3,1", "text/csv"),
    ],
)
def test_a_claim_that_the_bytes_allow_is_kept(declared: str, head: bytes, kept: str | None) -> None:
    assert checked_type(declared, head) == (kept or declared)


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ("image/png", HTML),
        ("image/png", JPEG),
        ("image/png", b"\x00\x01\x02"),
        ("text/plain", PNG),
        ("audio/mpeg", ZIP),
        ("application/pdf", HTML),
        ("image/jpeg", b"\x7fELF\x02"),
        ("application/pdf", ZIP),
        ("not a type", PNG),
        ("image/", PNG),
    ],
)
def test_a_claim_that_the_bytes_contradict_is_refused_and_says_what_they_look_like(declared: str, head: bytes) -> None:
    with pytest.raises(InvalidInput) as refusal:
        checked_type(declared, head)
    assert refusal.value.fields[0].field == "start.mime_type"
