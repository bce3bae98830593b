"""Messages from their descriptors and the rules in them: mostly good ones with one thing wrong, at times all wrong."""

from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz import values
from tests.fuzz.known import Known

_DEEPEST = 7
_MOST_ITEMS = 1100
_OPENERS = ("hello", "start", "open", "header", "spec", "options", "session_id", "path", "metadata", "first")
_WELL_KNOWN = {
    "google.protobuf.Timestamp": values.time_of,
    "google.protobuf.Duration": values.length_of,
    "google.protobuf.Struct": values.tree,
}


def fields_of(descriptor: Any) -> list[FieldDescriptor]:
    """As the library types them in some places and not in others."""
    return list(descriptor.fields)


class Messages:
    """Makes requests. `known` has what fits: ids that exist, cursors that were given out."""

    def __init__(self, random: Random, known: Known) -> None:
        self._random = random
        self._known = known
        self._wrong = 0.0

    def make(self, descriptor: Descriptor, *, first: bool = False) -> Message:
        """`first` is whether it begins a stream, whose first frame is most often what the contract wants there."""
        self._wrong = self._random.choice((0.0, 0.0, 0.0, 0.04, 0.04, 0.3))
        message: Message = GetMessageClass(descriptor)()
        if self._random.random() < 0.03:
            return message
        if not self._taken_over(message, 0, 0.7):
            self._fill(message, 0, first)
        return message

    def _taken_over(self, message: Message, depth: int, chance: float) -> bool:
        """Whether it is now like one that was seen, with few things changed."""
        like = self._known.like(self._random, message.DESCRIPTOR.full_name) if self._chance(chance) else None
        if like is None:
            return False
        message.CopyFrom(like)
        for _ in range(self._random.choice((0, 0, 1, 1, 2))):
            self._vary(message, depth)
        return True

    def _vary(self, message: Message, depth: int) -> None:
        """Another value in one field, at times deep inside."""
        fields = fields_of(message.DESCRIPTOR)
        inside = [value for field, value in message.ListFields() if isinstance(value, Message)]
        if inside and depth < _DEEPEST and self._chance(0.7):
            self._vary(self._random.choice(inside), depth + 1)
        elif fields:
            field = self._random.choice(fields)
            message.ClearField(field.name)
            if self._chance(0.85):
                self._set(message, field, depth, first=False)

    def _chance(self, chance: float) -> bool:
        return self._random.random() < chance

    def _fill(self, message: Message, depth: int, first: bool = False) -> None:
        descriptor = message.DESCRIPTOR
        chosen = {oneof.name: self._branch(oneof.fields, first) for oneof in descriptor.oneofs}
        for field in fields_of(descriptor):
            oneof = field.containing_oneof
            if oneof is not None and len(oneof.fields) > 1:
                if chosen[oneof.name] is field and not self._chance(0.03):
                    self._set(message, field, depth, first)
            elif self._wanted(field, depth):
                self._set(message, field, depth, first)

    def _branch(self, fields: Any, first: bool) -> Any:
        if first and self._chance(0.85):
            for field in fields:
                if field.name in _OPENERS:
                    return field
        return self._random.choice(fields)

    def _wanted(self, field: FieldDescriptor, depth: int) -> bool:
        if field.message_type is not None and depth >= _DEEPEST:
            return False
        rules = values.rules_of(field)
        must = rules.required or rules.string.min_len or rules.repeated.min_items or field.name.endswith("_id")
        return self._chance(0.95 if must else 0.45 if depth < 3 else 0.2)

    def _set(self, message: Message, field: FieldDescriptor, depth: int, first: bool) -> None:
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._set_map(target, field, depth)
        elif field.is_repeated:
            self._set_items(target, field, depth)
        elif field.message_type is not None:
            target.SetInParent()
            self._fill_inside(target, depth, first)
        else:
            setattr(message, field.name, self._scalar(field, values.rules_of(field)))

    def _fill_inside(self, message: Message, depth: int, first: bool = False) -> None:
        make = _WELL_KNOWN.get(message.DESCRIPTOR.full_name)
        if make is not None:
            make(self._random, message)
        elif not self._taken_over(message, depth + 1, 0.4):
            self._fill(message, depth + 1, first)

    def _count(self, least: int, most: int) -> int:
        if most and self._chance(self._wrong / 2):
            return min(_MOST_ITEMS, self._random.choice((most, most + 1)))
        if least and self._chance(self._wrong):
            return least - 1
        return max(least, self._random.choice((0, 1, 1, 2)))

    def _set_items(self, target: Any, field: FieldDescriptor, depth: int) -> None:
        rules = values.rules_of(field).repeated
        count = self._count(rules.min_items, rules.max_items)
        if field.message_type is None:
            target.extend(self._scalar(field, rules.items) for _ in range(count))
            return
        for index in range(count):
            # The first few differ, so that many stay cheap.
            if index < 3:
                self._fill_inside(target.add(), depth)
            else:
                target.add().CopyFrom(target[0])

    def _set_map(self, target: Any, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        rules = values.rules_of(field).map
        for index in range(self._count(rules.min_pairs, rules.max_pairs)):
            name = self._scalar(key, rules.keys)
            name = f"{name[:40]}{index}" if index and isinstance(name, str) else name
            if value.message_type is not None:
                self._fill_inside(target[name], depth)
            else:
                target[name] = self._scalar(value, rules.values)

    def _scalar(self, field: FieldDescriptor, rules: Any) -> Any:
        broken = self._chance(self._wrong)
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._chance(0.5)
            case FieldDescriptor.CPPTYPE_ENUM:
                return values.of_enum(self._random, field, broken=broken)
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return values.real(self._random)
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return values.some_bytes(self._random, rules.bytes, broken=broken)
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text(field, rules.string, broken=broken)
            case _:
                return values.number(self._random, field, broken=broken)

    def _text(self, field: FieldDescriptor, rules: Any, *, broken: bool) -> str:
        if broken:
            return values.past(self._random, rules)
        known = self._known.pick(self._random, field) if self._chance(0.85) else None
        return known if known is not None else values.fit(self._random, rules)
