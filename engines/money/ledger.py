"""The one way into the ledger: together with the audit entry, in the transaction that ends the operation."""

from datetime import datetime

from engines.models import Operation
from engines.money.amounts import dollars
from engines.money.models import Evidence, LedgerEntry, Outcome
from engines.operations.moves import Decider, audit_money


def book(
    operation: Operation,
    outcome: Outcome,
    evidence: Evidence,
    *,
    after: datetime | None,
    at: datetime,
    by: Decider | None,
    cost: int | None = None,
) -> LedgerEntry:
    """Write the charge of an operation. Raises IntegrityError if it has one. `cost` is what the API's own books say."""
    bought = operation.extension
    cost = bought.cost if cost is None else cost
    before = bought.before or bought.seen_threshold
    entry = LedgerEntry(
        team=operation.team,
        operation_id=operation.pk,
        at=at,
        sent_at=bought.armed_at or at,
        engine_uid=operation.uid,
        engine_name=operation.engine_name,
        connection_name=operation.connection.name,
        user=operation.requested_by,
        user_name=operation.requested_name,
        approved_name=bought.approved_name,
        reason=operation.reason,
        hours=bought.hours,
        price=bought.seen_price,
        cost=cost,
        before=before,
        after=after,
        outcome=outcome,
        evidence=evidence,
    )
    entry.save()
    audit_money(
        operation,
        by=by,
        before={"paid_until": before.isoformat()},
        after={"paid_until": after.isoformat() if after else ""},
        hours=str(bought.hours),
        price_cents=bought.seen_price,
        cost_microcents=cost,
        cost=dollars(cost),
        evidence=f"{evidence}: {Evidence(evidence).label}",
        approved_by=bought.approved_name,
    )
    return entry
