"""Alembic's environment: runs on the connection that `farm.store.database` gives it."""

from alembic import context

from farm.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
