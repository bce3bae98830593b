"""Good requests to the box, to begin with."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from portway.v1 import file_pb2, process_pb2, session_pb2

_WHERE = {"sessionId": "s1", "workspaceId": "default"}
_FILE = {**_WHERE, "path": "/workspace/a.txt"}
_TERMINAL = {"rows": 9, "columns": 9}
_FOLDER = {**_WHERE, "path": "/workspace"}

_SAMPLES: tuple[tuple[type[Message], dict[str, Any]], ...] = (
    (session_pb2.CreateSessionRequest, {**_WHERE, "spec": {"labels": {"a": "b"}, "env": {"A": "1"}}}),
    (session_pb2.CreateSessionRequest, {**_WHERE, "sessionId": "s2", "spec": {"limits": {"memoryBytes": "99999999"}}}),
    (session_pb2.GetSessionRequest, _WHERE),
    (session_pb2.DeleteSessionRequest, {**_WHERE, "sessionId": "s2"}),
    (process_pb2.ExecOnceRequest, {**_WHERE, "command": {"shell": "echo hi; cat"}, "stdin": "aGk=", "requestId": "r1"}),
    (process_pb2.ExecOnceRequest, {**_WHERE, "command": {"argv": {"args": ["ls", "-l"]}}, "requestId": "r2"}),
    (process_pb2.ExecRequest, {"start": {**_WHERE, "command": {"shell": "cat"}}}),
    (process_pb2.ExecRequest, {"start": {**_WHERE, "command": {"shell": "cat", "terminal": _TERMINAL}}}),
    (process_pb2.ExecRequest, {"stdin": "aGkK"}),
    (process_pb2.ExecRequest, {"resize": {"rows": 20, "columns": 20}}),
    (process_pb2.ExecRequest, {"closeStdin": {}}),
    (process_pb2.StartProcessRequest, {**_WHERE, "processId": "p1", "command": {"shell": "cat"}}),
    (process_pb2.GetProcessRequest, {**_WHERE, "processId": "p1"}),
    (process_pb2.StopProcessRequest, {**_WHERE, "processId": "p1"}),
    (process_pb2.AttachProcessRequest, {"attach": {**_WHERE, "processId": "p1"}}),
    (file_pb2.WriteFileRequest, {"start": {"file": _FILE, "makeParents": True}}),
    (file_pb2.WriteFileRequest, {"data": "aGVsbG8="}),
    (file_pb2.ReadFileRequest, {"file": _FILE}),
    (file_pb2.EditFileRequest, {"file": _FILE, "oldText": "hello", "newText": "hello hello", "replaceAll": True}),
    (file_pb2.StatRequest, {"file": _FILE}),
    (file_pb2.RemoveRequest, {"file": _FILE}),
    (file_pb2.GlobRequest, {"directory": _FOLDER, "pattern": "**/*"}),
    (file_pb2.GrepRequest, {"root": _FOLDER, "pattern": "h.*o"}),
    (file_pb2.ListDirectoryRequest, {"directory": _FOLDER}),
)


def samples() -> Iterator[Message]:
    for kind, fields in _SAMPLES:
        yield ParseDict(fields, kind())
