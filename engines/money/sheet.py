"""The ledger as CSV for a spreadsheet, in which no cell becomes a formula."""

import csv
import io
from collections.abc import Iterable, Iterator
from decimal import Decimal

from engines.money.amounts import MICROCENTS_PER_DOLLAR
from engines.money.models import LedgerEntry

HEAD = (
    "Time (UTC)", "Engine", "Engine id", "Connection", "Hours", "Dollars an hour", "Dollars", "Paid until before (UTC)",
    "Paid until after (UTC)", "Who", "Approved by", "Why", "Evidence", "Outcome", "Operation",
)  # fmt: skip
# What a spreadsheet may take for the begin of a formula, full-width forms included.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


def safe(text: str) -> str:
    """Return the text as a cell that stays text."""
    return f"'{text}" if text.startswith(FORMULA) else text


def lines(entries: Iterable[LedgerEntry]) -> Iterator[str]:
    """Yield the sheet line by line, RFC 4180."""
    yield _line(HEAD)
    for entry in entries:
        yield _line(_cells(entry))


def _cells(entry: LedgerEntry) -> tuple[str, ...]:
    times = [f"{at:%Y-%m-%d %H:%M:%S}" if at else "" for at in (entry.at, entry.before, entry.after)]
    return (
        times[0],
        safe(entry.engine_name),
        safe(entry.engine_uid),
        safe(entry.connection_name),
        f"{entry.hours:f}",
        f"{Decimal(entry.price) / 100:.2f}",
        f"{Decimal(entry.cost) / MICROCENTS_PER_DOLLAR:.8f}",
        times[1],
        times[2],
        safe(entry.user_name),
        safe(entry.approved_name),
        safe(entry.reason),
        entry.get_evidence_display(),
        entry.get_outcome_display(),
        str(entry.operation_id),
    )


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([cell.replace("\0", "") for cell in cells])
    return out.getvalue()
