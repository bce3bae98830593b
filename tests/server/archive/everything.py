"""A row in every table, whatever tables there are: nothing is left out of an archive because a test forgot it."""

from portway.server.archive.tables import TableShape, shapes
from portway.server.storage_engine.transaction import SqlValue, Transaction
from portway.server.transcript.search import Placement, index_text

TEXT = "a blue bicycle 蓝色自行车"


def fill(tx: Transaction, count: int = 3) -> None:
    """`count` rows in every table, with bytes and text that are easily broken on the way."""
    for shape in shapes():
        if shape.name != "host_epochs":
            tx.insert_many(shape.name, [_row(shape, number) for number in range(1, count + 1)])
    for number in range(1, count + 1):
        index_text(tx, number, Placement(f"workspace_id-{number}", f"conversation_id-{number}", "user", "text"), TEXT)


def _row(shape: TableShape, number: int) -> dict[str, SqlValue]:
    return {column: _value(shape, column, number) for column in shape.columns}


def _value(shape: TableShape, column: str, number: int) -> SqlValue:
    if column in shape.octets:
        return bytes(range(256)) + bytes([number])
    if column in shape.numbers:
        return number
    if (shape.name, column) == ("transcript", "text"):
        return TEXT
    if (shape.name, column) == ("transcript", "role"):
        return "user"
    if column == "sha256":
        return ""
    if (shape.name, column) == ("sequences", "stream"):
        return "audit"
    if column == "state":
        return "closed"
    return f'{column}-{number}\n"\\\u2028\U0001f6b2' if column in ("name", "summary", "title") else f"{column}-{number}"
