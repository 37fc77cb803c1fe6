"""Room 5: Alembic's entry point. It runs inside the transaction of the connection in `revisions.configuration`.

To make a new revision, change `tables` first. Then, on a connection to a store of the newest schema:
``alembic.command.revision(configuration(connection), "what changes", rev_id="0002", autogenerate=True)``.
"""

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from pytest_boobench.store.tables import VERSION_TABLE, metadata


def render_plainly(kind: str, item: Any, _autogenerate: Any) -> str | Literal[False]:
    """Write our column types as the SQLAlchemy types under them: ours may change later, a revision may not."""
    return f"sa.{item.impl_instance!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_item=render_plainly,
    render_as_batch=True,  # SQLite changes a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()
