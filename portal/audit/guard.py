"""The triggers that make the log append-only, whoever holds the connection.

Entries and seals take no UPDATE, DELETE, TRUNCATE or overwriting INSERT. The one exception: an entry that a seal
covers may be deleted (see `portal.audit.seals`); `verify_audit` checks that seal's signature. The triggers name both
tables, so a migration that changes either calls `lower` before and `put_up` after. The owner of the database can do
that too: against the owner there are checkpoints outside of it.

`append_only` makes such triggers for another table, without an exception.
"""

from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

COVERED = """EXISTS (SELECT 1 FROM audit_seal
    WHERE audit_seal.team_id = OLD.team_id AND OLD.number BETWEEN audit_seal.first AND audit_seal.last)"""

POSTGRESQL = (
    """CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    f"""CREATE FUNCTION audit_refuse_unsealed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {COVERED} THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the audit log is append-only: DELETE on % is refused for what is not sealed', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    """CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_refuse()""",
    """CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_unsealed()""",
    """CREATE TRIGGER audit_entry_no_truncate BEFORE TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()""",
    """CREATE TRIGGER audit_seal_no_change BEFORE UPDATE OR DELETE ON audit_seal
    FOR EACH ROW EXECUTE FUNCTION audit_refuse()""",
    """CREATE TRIGGER audit_seal_no_truncate BEFORE TRUNCATE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()""",
    # ALWAYS: session_replication_role = replica would pass an ordinary trigger by.
    "ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_no_update",
    "ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_no_delete",
    "ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_no_truncate",
    "ALTER TABLE audit_seal ENABLE ALWAYS TRIGGER audit_seal_no_change",
    "ALTER TABLE audit_seal ENABLE ALWAYS TRIGGER audit_seal_no_truncate",
)
POSTGRESQL_DOWN = (
    # Checks that wait for the commit would keep the tables from being altered.
    "SET CONSTRAINTS ALL IMMEDIATE",
    "DROP TRIGGER IF EXISTS audit_entry_no_update ON audit_entry",
    "DROP TRIGGER IF EXISTS audit_entry_no_delete ON audit_entry",
    "DROP TRIGGER IF EXISTS audit_entry_no_truncate ON audit_entry",
    "DROP TRIGGER IF EXISTS audit_seal_no_change ON audit_seal",
    "DROP TRIGGER IF EXISTS audit_seal_no_truncate ON audit_seal",
    "DROP FUNCTION IF EXISTS audit_refuse()",
    "DROP FUNCTION IF EXISTS audit_refuse_unsealed()",
)

# An INSERT OR REPLACE fires no DELETE trigger: what it would overwrite is looked for before it.
SQLITE = (
    """CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: UPDATE on audit_entry is refused'); END""",
    f"""CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry WHEN NOT {COVERED}
    BEGIN SELECT RAISE(ABORT,
        'the audit log is append-only: DELETE on audit_entry is refused for what is not sealed'); END""",
    """CREATE TRIGGER audit_entry_no_replace BEFORE INSERT ON audit_entry
    WHEN EXISTS (SELECT 1 FROM audit_entry WHERE id = NEW.id)
        OR EXISTS (SELECT 1 FROM audit_entry WHERE team_id = NEW.team_id AND number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: overwriting in audit_entry is refused'); END""",
    """CREATE TRIGGER audit_seal_no_update BEFORE UPDATE ON audit_seal
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: UPDATE on audit_seal is refused'); END""",
    """CREATE TRIGGER audit_seal_no_delete BEFORE DELETE ON audit_seal
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: DELETE on audit_seal is refused'); END""",
    """CREATE TRIGGER audit_seal_no_replace BEFORE INSERT ON audit_seal
    WHEN EXISTS (SELECT 1 FROM audit_seal WHERE id = NEW.id)
        OR EXISTS (SELECT 1 FROM audit_seal WHERE team_id = NEW.team_id AND first = NEW.first)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: overwriting in audit_seal is refused'); END""",
)
SQLITE_DOWN = tuple(
    f"DROP TRIGGER IF EXISTS {table}_no_{what}"
    for table in ("audit_entry", "audit_seal")
    for what in ("update", "delete", "replace")
)


@dataclass(frozen=True)
class Guard:
    """Triggers by their statements: those that make them, and those that drop them."""

    postgresql: tuple[str, ...]
    postgresql_down: tuple[str, ...]
    sqlite: tuple[str, ...]
    sqlite_down: tuple[str, ...]

    def put_up(self, connection: BaseDatabaseWrapper) -> None:
        """Create the triggers; fails if they are there."""
        _run(connection, self.postgresql if connection.vendor == "postgresql" else self.sqlite)

    def lower(self, connection: BaseDatabaseWrapper) -> None:
        """Drop the triggers, those that are there."""
        _run(connection, self.postgresql_down if connection.vendor == "postgresql" else self.sqlite_down)

    def put_up_in_migration(self, apps: Any, schema_editor: Any) -> None:
        self.put_up(schema_editor.connection)

    def lower_in_migration(self, apps: Any, schema_editor: Any) -> None:
        self.lower(schema_editor.connection)


def append_only(table: str, name: str, *unique: str) -> Guard:
    """Return what keeps rows of `table` as they are. `unique` are the columns by which a row could be overwritten."""
    words = f"the {name} is append-only"
    each = "EXISTS (SELECT 1 FROM {0} WHERE {1} = NEW.{1})"
    there = " OR ".join(each.format(table, column) for column in unique)
    refuse, change, truncate = f"{table}_refuse", f"{table}_no_change", f"{table}_no_truncate"
    return Guard(
        postgresql=(
            f"""CREATE FUNCTION {refuse}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION '{words}: % is refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
            END $$""",
            f"CREATE TRIGGER {change} BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {refuse}()",
            f"CREATE TRIGGER {truncate} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {refuse}()",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {change}",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {truncate}",
        ),
        postgresql_down=(
            "SET CONSTRAINTS ALL IMMEDIATE",
            f"DROP TRIGGER IF EXISTS {change} ON {table}",
            f"DROP TRIGGER IF EXISTS {truncate} ON {table}",
            f"DROP FUNCTION IF EXISTS {refuse}()",
        ),
        sqlite=tuple(
            f"""CREATE TRIGGER {table}_no_{what} BEFORE {event} ON {table} {when}
            BEGIN SELECT RAISE(ABORT, '{words}: {what} is refused'); END"""
            for what, event, when in (
                ("update", "UPDATE", ""),
                ("delete", "DELETE", ""),
                ("replace", "INSERT", f"WHEN {there}"),
            )
        ),
        sqlite_down=tuple(f"DROP TRIGGER IF EXISTS {table}_no_{what}" for what in ("update", "delete", "replace")),
    )


def _run(connection: BaseDatabaseWrapper, statements: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


LOG = Guard(POSTGRESQL, POSTGRESQL_DOWN, SQLITE, SQLITE_DOWN)
put_up, lower = LOG.put_up, LOG.lower
put_up_in_migration, lower_in_migration = LOG.put_up_in_migration, LOG.lower_in_migration
