"""The kinds of things that files can declare: one table, and everything else from the contract's descriptors."""

from dataclasses import dataclass
from types import ModuleType

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from portway.v1 import agent_pb2, binding_pb2, model_pb2, options_pb2, schedule_pb2, tool_pb2, workspace_pb2

_GIVEN = ("managed_by", "revision", "create_time", "update_time")


@dataclass(frozen=True, slots=True)
class Kind:
    """A noun of the contract. `key`: the fields that name one. `given`: what the host says and nobody declares.

    `create`, `update`, `delete` may be one method (`SetKillSwitch`), or missing. `off`: the flag whose
    false removes it. `whole`: changes replace the whole list; only what the workspace itself set counts.
    """

    name: str
    message: type[Message]
    key: tuple[str, ...]
    given: frozenset[str]
    listing: MethodDescriptor
    create: MethodDescriptor | None
    update: MethodDescriptor | None
    delete: MethodDescriptor | None
    off: str = ""
    whole: bool = False

    def id_of(self, message: Message) -> str:
        """Its name among its kind."""
        return "/".join(_text(message, field) for field in self.key)

    def field_of(self, method: MethodDescriptor) -> FieldDescriptor:
        """Where the message stands in a request, or the list of them in a response."""
        for shape in (method.input_type, method.output_type):
            for field in shape.fields:
                if field.message_type is self.message.DESCRIPTOR:
                    return field
        raise AssertionError(f"{method.full_name} has no {self.name}")

    def secrets(self) -> list[str]:
        """Fields that the contract calls secret."""
        return [one.name for one in self.message.DESCRIPTOR.fields if one.GetOptions().Extensions[options_pb2.secret]]


def _text(message: Message, name: str) -> str:
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    return str(field.enum_type.values_by_number[value].name if field.enum_type else value)


def _kind(module: ModuleType, service: str, noun: str, plural: str = "", given: tuple[str, ...] = ()) -> Kind:
    methods = _service(module, service).methods_by_name
    message = GetMessageClass(module.DESCRIPTOR.message_types_by_name[noun])
    return Kind(
        name=noun,
        message=message,
        key=(message.DESCRIPTOR.fields[0].name,),
        given=frozenset((*_GIVEN, *given)),
        listing=methods[f"List{plural or noun + 's'}"],
        create=methods.get(f"Create{noun}"),
        update=methods.get(f"Update{noun}"),
        delete=methods.get(f"Delete{noun}"),
    )


def _switch() -> Kind:
    methods = _service(workspace_pb2, "WorkspaceService").methods_by_name
    setting = methods["SetKillSwitch"]
    return Kind(
        name="KillSwitch",
        message=workspace_pb2.KillSwitch,
        key=("kind", "target_id"),
        given=frozenset(_GIVEN),
        listing=methods["ListKillSwitches"],
        create=setting,
        update=setting,
        delete=setting,
        off="on",
    )


def _prices() -> Kind:
    methods = _service(model_pb2, "ModelService").methods_by_name
    setting = methods["SetPrices"]
    return Kind(
        name="ModelPrice",
        message=model_pb2.ModelPrice,
        key=("model_id",),
        given=frozenset(_GIVEN),
        listing=methods["ListPrices"],
        create=setting,
        update=setting,
        delete=setting,
        whole=True,
    )


def _service(module: ModuleType, name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]
    return found


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _kind(workspace_pb2, "WorkspaceService", "Workspace"),
        _kind(workspace_pb2, "WorkspaceService", "User"),
        _kind(model_pb2, "ModelService", "ModelProvider", given=("has_api_key",)),
        _kind(model_pb2, "ModelService", "Model"),
        _prices(),
        _kind(
            tool_pb2,
            "ToolService",
            "McpServer",
            given=("state", "reason", "tool_count", "problems", "protocol_version"),
        ),
        _kind(agent_pb2, "AgentService", "Agent"),
        _kind(binding_pb2, "BindingService", "Binding"),
        _kind(
            schedule_pb2,
            "ScheduleService",
            "Schedule",
            given=("next_time", "last_time", "last_outcome", "last_reason", "last_event_id", "last_run_id"),
        ),
        _switch(),
    )
}
"""In the order in which they are made: what something refers to comes before it. Removed the other way round."""
