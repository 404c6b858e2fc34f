"""A chain's entries as they are hashed and kept in files: in order, in bounded memory, without making objects."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import connection

from portal.accounts.models import Team
from portal.audit.log import HASHED, canonical, chained, recompacted, text_of
from portal.audit.models import Entry

BATCH = 5000


class Row(NamedTuple):
    """`text` is the entry's canonical JSON; `prev_hash` and `hash` are what is stored, whether right or wrong."""

    number: int
    prev_hash: str
    hash: str
    text: str

    def digest(self) -> str:
        return chained(self.prev_hash, self.text)

    def line(self) -> str:
        """The entry as a line of a file, its hashes included; `parsed` reads it."""
        return f'{self.text[:-1]},"prev_hash":"{self.prev_hash}","hash":"{self.hash}"}}\n'


def row_of(entry: Entry) -> Row:
    return Row(entry.number, entry.prev_hash, entry.hash, text_of(entry))


def parsed(line: str, team: Team) -> Row:
    """Read a line of a file. Raises ValueError, KeyError or TypeError on one that no entry makes."""
    fields: dict[str, Any] = json.loads(line)
    text = {name: fields[name] for name in HASHED} | {"team": fields["team"]}
    if fields["team"] != team.pk:
        raise ValueError("another team's")
    compact = json.dumps(text, sort_keys=True, separators=(",", ":"))
    return Row(int(fields["number"]), str(fields["prev_hash"]), str(fields["hash"]), compact)


def between(team: Team, first: int, last: int) -> Iterator[Row]:
    """Read the entries from number `first` to `last`, both included."""
    sqlite = connection.vendor == "sqlite"
    # The text as it is stored: parsing it to a datetime and printing that again costs more than the hash.
    columns = ["at || ''" if name == "at" and sqlite else name for name in HASHED]
    statement = (
        f"SELECT {', '.join(columns)}, prev_hash, hash FROM audit_entry"  # noqa: S608 (names of ours)
        " WHERE team_id = %s AND number >= %s AND number <= %s ORDER BY number LIMIT %s"
    )
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, [team.pk, first, last, BATCH])
            batch = cursor.fetchall()
        yield from (_row(values, team.pk, sqlite) for values in batch)
        if len(batch) < BATCH:
            return
        first = batch[-1][8] + 1


def _row(values: Any, team_id: int, sqlite: bool) -> Row:
    stored = list(values)
    for place in (4, 6, 7):
        stored[place] = recompacted(stored[place])
    stored[5] = f"{stored[5].replace(' ', 'T')}+00:00" if sqlite else stored[5].isoformat()
    return Row(stored[8], stored[17], stored[18], canonical(stored[:17], team_id))
