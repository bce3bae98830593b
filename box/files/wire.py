"""Files between the contract and this folder's types."""

from google.protobuf.timestamp_pb2 import Timestamp

from portway.box.files.types import FileInfo, FileType, LineMatch
from portway.v1 import file_pb2 as pb

_TYPE_TO = {
    FileType.FILE: pb.FILE_TYPE_FILE,
    FileType.DIRECTORY: pb.FILE_TYPE_DIRECTORY,
    FileType.LINK: pb.FILE_TYPE_LINK,
    FileType.OTHER: pb.FILE_TYPE_UNSPECIFIED,
}


def _text(name: str) -> str:
    """Names are bytes to the kernel; what is no UTF-8 is replaced, as in every text view."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def info_to(info: FileInfo) -> pb.FileInfo:
    seconds, nanos = divmod(info.modify_time_ns, 1_000_000_000)
    return pb.FileInfo(
        path=_text(info.path),
        type=_TYPE_TO[info.type],
        size=info.size,
        mode=info.mode,
        modify_time=Timestamp(seconds=seconds, nanos=nanos),
    )


def match_to(match: LineMatch) -> pb.GrepMatch:
    return pb.GrepMatch(path=_text(match.path), line_number=match.line_number, line=_text(match.line))
