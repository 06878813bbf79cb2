"""hosts that fail, where attempts were, and the end of one cell"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not in batches: those would make the tables anew, which others refer to.
    op.add_column("attempts", sa.Column("host", sa.String(length=200), nullable=False, server_default=""))
    op.create_index("ix_attempts_host", "attempts", ["host", "finished"])
    op.add_column("cells", sa.Column("cancel_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("hosts", sa.Column("kind", sa.String(length=16), nullable=False, server_default="drained"))
    op.add_column("hosts", sa.Column("due", sa.String(length=32), nullable=True))
    op.add_column("hosts", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("hosts", schema=None) as batch_op:
        batch_op.drop_column("tries")
        batch_op.drop_column("due")
        batch_op.drop_column("kind")
    with op.batch_alter_table("cells", schema=None) as batch_op:
        batch_op.drop_column("cancel_requested")
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index("ix_attempts_host")
        batch_op.drop_column("host")
