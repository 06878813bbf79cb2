"""digests of requests hold secrets: those that were made without a key are forgotten"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The keys stay used, so that no request of before makes a second run; whoever repeats one is told to take a new key.
    op.execute("UPDATE idempotency SET digest = ''")


def downgrade() -> None:
    pass  # what was forgotten does not come back
