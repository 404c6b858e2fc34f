"""What every `POST /run` asks the database, as statements of one form.

Django writes a query anew each time, and takes longer for that than a database to answer it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connections
from django.db.models import Field, JSONField, Model
from psycopg import Cursor as ServerCursor

from engines.controlplane.models import DATABASE


def ask(sql: str, *given: Any) -> list[tuple[Any, ...]]:
    """Run the statement and return its rows, in which nothing is converted. A moment may be given as it is."""
    adapt = connections[DATABASE].ops.adapt_datetimefield_value
    with _executed(sql, [adapt(value) if isinstance(value, datetime) else value for value in given]) as cursor:
        return cursor.fetchall() if cursor.description else []


@contextmanager
def _executed(sql: str, given: Sequence[Any]) -> Iterator[Any]:
    connection = connections[DATABASE]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(sql, given)
            yield cursor
            return
    connection.ensure_connection()
    # Prepared, which Django does not do: to plan one of these takes PostgreSQL longer than to carry it out.
    with connection.wrap_database_errors, ServerCursor(connection.connection) as cursor:
        cursor.execute(sql, given, prepare=True)
        yield cursor


def locking(sql: str, *, waits: bool) -> str:
    """Return the SELECT so that it locks what it reads, without its key, up to the commit.

    What somebody else has locked is waited for, or left out.
    """
    connection = connections[DATABASE]
    if not connection.features.has_select_for_update:
        return sql  # on SQLite the transaction itself has the lock
    return f"{sql} {connection.ops.for_update_sql(no_key=True, skip_locked=not waits)}"


def insert(*rows: Model) -> int:
    """Store new rows of one model, as they are; return how many that were.

    One that a unique constraint refuses is left out. An id that the database gives is not read back.
    """
    connection = connections[DATABASE]
    model = type(rows[0])
    given = [_prepared(field, getattr(row, field.attname), connection) for row in rows for field in _kept(model)]
    with _executed(_insert(model, len(rows)), given) as cursor:
        return int(cursor.rowcount)


def _prepared(field: "Field[Any, Any]", value: Any, connection: Any) -> Any:
    # Django takes longer to find out that a text stays a text than to convert what has to be.
    as_it_is = value is None or type(value) in (str, int, float)
    return value if as_it_is and not isinstance(field, JSONField) else field.get_db_prep_save(value, connection)


@lru_cache
def _kept(model: type[Model]) -> Sequence["Field[Any, Any]"]:
    fields = model._meta.local_concrete_fields
    return [field for field in fields if not field.generated and not field.db_returning]


@lru_cache
def _insert(model: type[Model], count: int) -> str:
    columns = [f'"{field.column}"' for field in _kept(model)]
    row = f"({', '.join(['%s'] * len(columns))})"
    into = f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)})'
    return f"{into} VALUES {', '.join([row] * count)} ON CONFLICT DO NOTHING"
