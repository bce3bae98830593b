"""Files between the contract and this folder's types."""

import os

from google.protobuf.timestamp_pb2 import Timestamp

from portway.box.files.pack import Packed
from portway.box.files.types import FileInfo, FileType, LineMatch, shown
from portway.box.files.unpack import Unpacked
from portway.v1 import file_pb2 as pb

_TYPE_TO = {
    FileType.FILE: pb.FILE_TYPE_FILE,
    FileType.DIRECTORY: pb.FILE_TYPE_DIRECTORY,
    FileType.LINK: pb.FILE_TYPE_LINK,
    FileType.OTHER: pb.FILE_TYPE_UNSPECIFIED,
}


def path_of(file: pb.FilePath) -> str:
    """The path that is meant, as this side's programs hold names that are no text."""
    return os.fsdecode(file.raw_path) if file.raw_path else file.path


def _raw(path: str) -> bytes:
    """Only where the text cannot say it."""
    return b"" if path.isprintable() or shown(path) == path else os.fsencode(path)


def info_to(info: FileInfo) -> pb.FileInfo:
    seconds, nanos = divmod(info.modify_time_ns, 1_000_000_000)
    return pb.FileInfo(
        path=shown(info.path),
        type=_TYPE_TO[info.type],
        size=info.size,
        mode=info.mode,
        modify_time=Timestamp(seconds=seconds, nanos=nanos),
        raw_path=_raw(info.path),
    )


def match_to(match: LineMatch) -> pb.GrepMatch:
    return pb.GrepMatch(
        path=shown(match.path), line_number=match.line_number, line=shown(match.line), raw_path=_raw(match.path)
    )


def unpacked_to(unpacked: Unpacked) -> pb.UploadResponse:
    return pb.UploadResponse(
        file_count=unpacked.files,
        byte_count=unpacked.bytes,
        directory_count=unpacked.directories,
        link_count=unpacked.links,
    )


def packed_to(packed: Packed) -> pb.DownloadEnd:
    return pb.DownloadEnd(
        file_count=packed.files,
        byte_count=packed.bytes,
        skipped_count=packed.skipped,
        changed_count=packed.changed,
    )
