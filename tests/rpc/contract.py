"""A small contract with every shape of method, compiled when it is imported."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

# Imported so that the pool has the files which the contract imports.
from portway.v1 import options_pb2 as _options  # noqa: F401
from portway.vendored.buf.validate import validate_pb2 as _validate  # noqa: F401

_HERE = Path(__file__).parent
_NAME = "echo.proto"


def _compile() -> Any:
    protos = _HERE.parents[1] / "protos"
    with TemporaryDirectory() as folder:
        out = Path(folder, "image.binpb")
        # The types of google.protobuf lie beside the compiler.
        builtin = Path(protoc.__file__).parent / "_proto"
        code = protoc.main(
            ["protoc", f"-I{_HERE}", f"-I{protos}", f"-I{builtin}", f"--descriptor_set_out={out}", str(_HERE / _NAME)]
        )
        if code:
            raise RuntimeError(f"{_NAME} does not compile; the compiler's message is above")
        image = FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.Default()
    pool.Add(image.file[0])
    return pool.FindFileByName(_NAME)


_FILE = _compile()
ECHO = _FILE.services_by_name["EchoService"]
OPEN = _FILE.services_by_name["OpenService"]
EchoMessage: Any = GetMessageClass(_FILE.message_types_by_name["EchoMessage"])
