"""From the messages of the runtime to runners."""

from google.protobuf.json_format import MessageToJson

from portway.server.runtimes.runner import ConfigField, FieldType, Runner, plugin_of
from portway.server.snapshot.wire import permissions_of
from portway.v1 import runner_pb2

_CAPABILITIES = tuple(field.name for field in runner_pb2.RunnerCapabilities.DESCRIPTOR.fields)
_ON_INTERRUPTED = {
    runner_pb2.INTERRUPTED_POLICY_RETRY: "retry",
    runner_pb2.INTERRUPTED_POLICY_FAIL: "fail",
}


def runner_of(manifest: runner_pb2.RunnerManifest) -> Runner:
    """Raises InvalidInput for an id of another form."""
    return Runner(
        runner_id=manifest.id,
        plugin_id=plugin_of(manifest.id),
        plugin_version=manifest.plugin_version,
        protocol_version=manifest.protocol_version,
        capabilities=frozenset(name for name in _CAPABILITIES if getattr(manifest.capabilities, name)),
        permissions=permissions_of(manifest.permissions),
        config_fields=tuple(_field(field) for field in manifest.config_schema),
        retry_safe=manifest.retry_safe,
        on_interrupted=_ON_INTERRUPTED.get(manifest.on_interrupted, ""),
        manifest=manifest.SerializeToString(deterministic=True),
    )


def _field(field: runner_pb2.ConfigField) -> ConfigField:
    return ConfigField(
        name=field.name,
        type=_field_type(field.type),
        label=dict(field.label.texts),
        required=field.required,
        default_json=MessageToJson(field.default_value, indent=None) if field.HasField("default_value") else "",
        options=tuple(option.value for option in field.options),
    )


def _field_type(number: int) -> FieldType | None:
    """Nothing for a type from a newer contract: such a field is kept and grants nothing."""
    try:
        name = runner_pb2.ConfigFieldType.Name(number)  # type: ignore[arg-type]  # any number may arrive
        return FieldType(name.removeprefix("CONFIG_FIELD_TYPE_").lower().replace("_", "-"))
    except ValueError:
        return None
