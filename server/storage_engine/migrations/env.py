"""Alembic's entry: run the revisions on the connection that `run.py` opened, or write PostgreSQL's statements down."""

from alembic import context

if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql", literal_binds=True, output_buffer=context.config.attributes["statements"]
    )
else:
    context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
