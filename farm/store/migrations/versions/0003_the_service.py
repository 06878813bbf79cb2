"""the service"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=63), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_at"), ["at"], unique=False)

    op.create_table(
        "hooks",
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("delivery", sa.String(length=200), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("run", sa.String(length=80), nullable=True),
        sa.Column("push", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("source", "delivery", name=op.f("pk_hooks")),
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_marks")),
    )
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("drained", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=True),
        sa.Column("revoked", sa.String(length=32), nullable=True),
        sa.Column("used", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_table(
        "waivers",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("cells", sa.Text(), nullable=False),
        sa.Column("tests", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waivers")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("waivers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_waivers_project"), ["project"], unique=False)

    op.create_table(
        "baselines",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("set", sa.String(length=32), nullable=False),
        sa.Column("set_by", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_baselines_runs")),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_baselines")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("target", sa.String(length=80), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due", sa.String(length=32), nullable=True),
        sa.Column("done", sa.String(length=32), nullable=True),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_deliveries_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_target", ["target", "due"], unique=False)

    op.create_table(
        "idempotency",
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=80), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_idempotency_runs")),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency")),
    )
    op.create_table(
        "labels",
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_labels_runs")),
        sa.PrimaryKeyConstraint("run", "key", name=op.f("pk_labels")),
    )
    with op.batch_alter_table("labels", schema=None) as batch_op:
        batch_op.create_index("ix_labels_key_value", ["key", "value"], unique=False)

    op.create_table(
        "secrets",
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_secrets_runs")),
        sa.PrimaryKeyConstraint("run", "name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=16), nullable=False),
        sa.Column("expires", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["token"], ["tokens.id"], name=op.f("fk_sessions_tokens")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sessions")),
    )
    op.create_table(
        "holds",
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.Column("ended", sa.String(length=32), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run", "cell", "number"],
            ["attempts.run", "attempts.cell", "attempts.number"],
            name=op.f("fk_holds_attempts"),
        ),
        sa.PrimaryKeyConstraint("run", "cell", "number", name=op.f("pk_holds")),
    )
    # An id must never be given twice, also not after rows were removed: listeners come back with it.
    with op.batch_alter_table("events", schema=None, table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.alter_column("cell", existing_type=sa.TEXT(), nullable=True)
        batch_op.alter_column("number", existing_type=sa.INTEGER(), nullable=True)
        batch_op.drop_index(batch_op.f("ix_events_attempt"))
        batch_op.create_index("ix_events_run", ["run", "id"], unique=False)
        batch_op.drop_constraint(batch_op.f("fk_events_attempts"), type_="foreignkey")
        batch_op.create_foreign_key(batch_op.f("fk_events_runs"), "runs", ["run"], ["id"])

    # Not in a batch: that would make the table anew, which others point to.
    op.add_column("runs", sa.Column("version", sa.String(length=200), server_default="", nullable=False))
    op.add_column("runs", sa.Column("priority", sa.Integer(), server_default="50", nullable=False))
    op.add_column("runs", sa.Column("owner", sa.String(length=80), server_default="", nullable=False))
    op.add_column("runs", sa.Column("served", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("runs", sa.Column("rerun_of", sa.String(length=80), nullable=True))
    op.add_column("runs", sa.Column("exit_code", sa.Integer(), nullable=True))
    op.create_index("ix_runs_state", "runs", ["state"], unique=False)

    with op.batch_alter_table("tests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tests_attempt"))
        batch_op.create_index("ix_tests_attempt", ["run", "cell", "number", "status"], unique=False)
        batch_op.create_index("ix_tests_name", ["name", "run", "cell", "number"], unique=False)

    op.create_table(
        "tallies",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run", sa.String(length=80), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("classname", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("flaked", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("longest_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_tallies_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tallies")),
    )
    with op.batch_alter_table("tallies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tallies_run"), ["run"], unique=False)

    # Of runs that came before: what can be counted without looking at others.
    op.execute("""
        INSERT INTO tallies
            (run, suite, classname, name, passed, failed, skipped, flaked, changed, duration_s, longest_s)
        SELECT tests.run, tests.suite, tests.classname, tests.name,
            SUM(CASE WHEN tests.status = 'passed' THEN 1 ELSE 0 END),
            SUM(CASE WHEN tests.status IN ('failed', 'error') THEN 1 ELSE 0 END),
            SUM(CASE WHEN tests.status = 'skipped' THEN 1 ELSE 0 END),
            0, 0,
            SUM(CASE WHEN tests.status = 'skipped' THEN 0 ELSE tests.duration_s END),
            MAX(CASE WHEN tests.status = 'skipped' THEN 0 ELSE tests.duration_s END)
        FROM tests
        JOIN (SELECT run, cell, MAX(number) AS number FROM attempts GROUP BY run, cell) AS counts
            ON counts.run = tests.run AND counts.cell = tests.cell AND counts.number = tests.number
        JOIN cells ON cells.run = tests.run AND cells.cell = tests.cell
        JOIN runs ON runs.id = tests.run
        WHERE runs.state = 'finished' AND cells.verdict IN ('passed', 'failed', 'skipped')
        GROUP BY tests.run, tests.suite, tests.classname, tests.name
    """)


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE cell IS NULL OR number IS NULL")
    with op.batch_alter_table("tests", schema=None) as batch_op:
        batch_op.drop_index("ix_tests_name")
        batch_op.drop_index("ix_tests_attempt")
        batch_op.create_index(batch_op.f("ix_tests_attempt"), ["run", "cell", "number"], unique=False)

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index("ix_runs_state")
        batch_op.drop_column("exit_code")
        batch_op.drop_column("rerun_of")
        batch_op.drop_column("served")
        batch_op.drop_column("owner")
        batch_op.drop_column("priority")
        batch_op.drop_column("version")

    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_events_runs"), type_="foreignkey")
        batch_op.create_foreign_key(
            batch_op.f("fk_events_attempts"), "attempts", ["run", "cell", "number"], ["run", "cell", "number"]
        )
        batch_op.drop_index("ix_events_run")
        batch_op.create_index(batch_op.f("ix_events_attempt"), ["run", "cell", "number"], unique=False)
        batch_op.alter_column("number", existing_type=sa.INTEGER(), nullable=False)
        batch_op.alter_column("cell", existing_type=sa.TEXT(), nullable=False)

    with op.batch_alter_table("tallies", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tallies_run"))

    op.drop_table("tallies")
    op.drop_table("holds")
    op.drop_table("sessions")
    op.drop_table("secrets")
    with op.batch_alter_table("labels", schema=None) as batch_op:
        batch_op.drop_index("ix_labels_key_value")

    op.drop_table("labels")
    op.drop_table("idempotency")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_target")

    op.drop_table("deliveries")
    op.drop_table("baselines")
    with op.batch_alter_table("waivers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_waivers_project"))

    op.drop_table("waivers")
    op.drop_table("tokens")
    op.drop_table("hosts")
    op.drop_table("marks")
    op.drop_table("hooks")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_at"))

    op.drop_table("audit")
