"""a store that several machines share: wide ids, names of any length, what runs were made of, leases"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WIDE = {
    "events": "id",
    "phases": "id",
    "tests": "id",
    "artifacts": "id",
    "tallies": "id",
    "audit": "id",
    "waivers": "id",
    "deliveries": "id",
}
_BEGINNING = sa.text("left(name, 200)")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "submissions",
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("submission", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_submissions_runs")),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_submissions")),
    )
    op.execute("INSERT INTO submissions (run, submission) SELECT id, submission FROM runs")
    # Runs that a killed `farm run` has left: whoever opens the store ends them.
    op.execute(
        "INSERT INTO leases (name, owner, expires)"
        " SELECT 'run:' || id, '', '' FROM runs WHERE state <> 'finished' AND NOT served"
    )
    # Not in a batch, here as below: that would make the table anew, which others point to.
    op.drop_column("runs", "submission")
    op.create_index("ix_attempts_state", "attempts", ["run", "state"], unique=False)
    if op.get_bind().dialect.name == "postgresql":  # SQLite's ids have 64 bits anyway, and its indexes room for all
        op.drop_index("ix_tests_name", "tests")
        op.create_index("ix_tests_name", "tests", [_BEGINNING, "run", "cell", "number"], unique=False)
        for table, column in {**_WIDE, "marks": "event"}.items():
            op.alter_column(table, column, type_=sa.BigInteger(), existing_nullable=False)
        op.alter_column("artifacts", "bytes", type_=sa.BigInteger(), existing_nullable=False)
        for table, column in _WIDE.items():
            op.execute(f"ALTER SEQUENCE {table}_{column}_seq AS bigint")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column in _WIDE.items():
            op.execute(f"ALTER SEQUENCE {table}_{column}_seq AS integer")
        op.alter_column("artifacts", "bytes", type_=sa.Integer(), existing_nullable=False)
        for table, column in {**_WIDE, "marks": "event"}.items():
            op.alter_column(table, column, type_=sa.Integer(), existing_nullable=False)
        op.drop_index("ix_tests_name", "tests")
        op.create_index("ix_tests_name", "tests", ["name", "run", "cell", "number"], unique=False)
    op.drop_index("ix_attempts_state", "attempts")
    op.add_column("runs", sa.Column("submission", sa.JSON(), server_default="{}", nullable=False))
    op.execute("UPDATE runs SET submission = (SELECT submission FROM submissions WHERE submissions.run = runs.id)")
    op.drop_table("submissions")
    op.drop_table("leases")
