"""Which columns refer to blobs. What is in none of them is nobody's, and may be removed."""

from collections.abc import Collection

BLOB_REFERENCES = (("artifacts", "sha256"), ("storage", "sha256"), ("skill_files", "sha256"))
"""(table, column). The table has a `workspace_id`; the column holds a digest in hex, '' for none."""

IN_USE = "SELECT " + " OR ".join(
    f"EXISTS (SELECT 1 FROM {table} WHERE workspace_id = :workspace_id AND {column} = :sha256)"
    for table, column in BLOB_REFERENCES
)
"""Whether anything refers to the blob `:sha256` of `:workspace_id`."""


def referred(tables: Collection[str]) -> str:
    """A query for (workspace_id, sha256) of every blob that is referred to, each once.

    `tables`: those that there are; a database of an older revision lacks some.
    """
    return " UNION ".join(
        f"SELECT workspace_id, {column} AS sha256 FROM {table} WHERE {column} <> ''"
        for table, column in BLOB_REFERENCES
        if table in tables
    )
