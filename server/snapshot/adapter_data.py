"""What of an adapter's own data a runner may see: nothing internal, nothing that looks like a secret."""

from google.protobuf.struct_pb2 import Struct

_SECRETIVE = ("secret", "token", "key", "password", "credential")


def harmless(data: Struct) -> Struct:
    """The data without names that begin with an underscore or look like a secret, at any depth."""
    kept = Struct()
    kept.CopyFrom(data)
    _clean(kept)
    return kept


def _clean(data: Struct) -> None:
    for name in list(data.fields):
        if name.startswith("_") or any(word in name.lower() for word in _SECRETIVE):
            del data.fields[name]
            continue
        value = data.fields[name]
        if value.HasField("struct_value"):
            _clean(value.struct_value)
        elif value.HasField("list_value"):
            for item in value.list_value.values:
                if item.HasField("struct_value"):
                    _clean(item.struct_value)
