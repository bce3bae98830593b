"""What PostgreSQL needs: its index of the transcript, and the commits that were made under a lease."""

from alembic import op

from portway.server.storage_engine.columns import number

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", number("commits"))
    if op.get_context().dialect.name == "postgresql":
        _transcript_search()


def _transcript_search() -> None:
    # The application cuts the text into terms itself. `terms` is what they are, in order, for phrases; positions of a
    # tsvector end at 16,383.
    op.execute(
        "CREATE TABLE transcript_search ("
        'item_number BIGINT PRIMARY KEY, terms TEXT COLLATE "C" NOT NULL, vector TSVECTOR NOT NULL)'
    )
    op.execute("CREATE INDEX transcript_search_by_term ON transcript_search USING gin (vector)")
