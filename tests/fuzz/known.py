"""What the servers have given out so far: ids, cursors and page tokens, for the requests that follow."""

from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_KEPT = 40
_WANTED = ("_id", "_ids", "id", "token", "cursor", "key", "name", "path", "etag", "digest", "run_ids")
_LONGEST = 2048
_KEPT_MESSAGES = 6
_LARGEST = 20_000


class Known:
    """Texts by the name of the field that they came in. `spared` are never used: they are what the test stands on."""

    def __init__(self, spared: frozenset[str] = frozenset()) -> None:
        self._spared = spared
        self._texts: dict[str, deque[str]] = {}
        self._messages: dict[str, deque[Message]] = {}

    def spare(self, text: str) -> None:
        self._spared |= {text}

    def learn(self, message: Message) -> None:
        """What a server said, or a good request to begin with."""
        if message.ByteSize() <= _LARGEST:
            self._messages.setdefault(message.DESCRIPTOR.full_name, deque(maxlen=_KEPT_MESSAGES)).append(message)
        for field, value in message.ListFields():
            for one in _each(field, value):
                if isinstance(one, Message):
                    self.learn(one)
                elif isinstance(one, str) and one and len(one) <= _LONGEST and field.name.endswith(_WANTED):
                    self.add(_name(message, field), one)

    def add(self, name: str, text: str) -> None:
        kept = self._texts.setdefault(name, deque(maxlen=_KEPT))
        if text not in self._spared and text not in kept:
            kept.append(text)

    def like(self, random: Random, type_name: str) -> Message | None:
        """One of this type."""
        kept = self._messages.get(type_name)
        return random.choice(kept) if kept else None

    def pick(self, random: Random, field: FieldDescriptor) -> str | None:
        """One that came in a field of this name, at times one of another kind or one that was tampered with."""
        name = _request_name(field.name)
        chance = random.random()
        if chance < 0.1 and self._texts:
            name = random.choice(list(self._texts))
        kept = self._texts.get(name)
        if not kept:
            return None
        found = random.choice(kept)
        return _forged(random, found) if chance > 0.95 else found


def _each(field: FieldDescriptor, value: Any) -> Iterator[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from value.values()
    elif field.is_repeated:
        yield from value
    else:
        yield value


def _name(message: Message, field: FieldDescriptor) -> str:
    """`id` and `name` are about the message that they are in."""
    if field.name in ("id", "name", "key"):
        return f"{message.DESCRIPTOR.name.lower()}.{field.name}"
    return _request_name(field.name)


def _request_name(name: str) -> str:
    if name in ("page_token", "next_page_token", "previous_page_token"):
        return "page_token"
    if name.endswith("cursor"):
        return "cursor"
    if name.endswith("_ids"):
        return name[:-1]
    for prefix in ("reply_to_", "parent_", "source_", "target_", "from_", "default_"):
        name = name.removeprefix(prefix)
    return name


def _forged(random: Random, text: str) -> str:
    at = random.randrange(len(text))
    return random.choice((text[:at], text + "A", text[:at] + random.choice("0aZ-_=\0") + text[at + 1 :], text * 2))
