"""What must hold before money is sent: the right, the key, the limits, and that what was confirmed is still so."""

from datetime import datetime

from engines import snapshots, wire
from engines.enums import State
from engines.models import Operation
from engines.money import amounts, limits
from engines.money.amounts import PaidTime
from engines.money.models import Evidence, LedgerEntry, Outcome
from engines.money.record import End
from portal.accounts.access import may
from portal.accounts.models import Membership


def right_lost(operation: Operation, now: datetime) -> End | None:
    """Why it may not be bought any more, at the claim."""
    cancelled = State.CANCELLED, not_charged(operation)
    rows = Membership.objects.filter(user=operation.requested_by_id, user__is_active=True, team=operation.team_id)
    role = rows.values_list("role", flat=True).first()
    if role is None or not may(role, f"engine-{operation.verb}"):
        return End(*cancelled, f"{operation.requested_name} may no longer do this in {operation.team}.")
    if now > operation.deadline_at:
        return End(*cancelled, f"It was not bought within ten minutes of being asked. {unsent(operation)}")
    if freeze := limits.freeze_of(operation.team):
        return End(*cancelled, f"{freeze} {unsent(operation)}")
    if operation.key is None or str(operation.key) != operation.key_label:
        return End(*cancelled, "The key it was asked with was removed or replaced before it was sent.")
    return None


def preflight(operation: Operation, dto: wire.Engine, now: datetime) -> PaidTime | End:
    """Compare what was confirmed with a reading made under the engine's lock. Return what may be bought, or the end."""
    bought = operation.extension
    snapshots.apply_one(operation.connection, dto, now)
    paid = amounts.read(dto.get("instance"))
    if paid is None:
        return End(State.REFUSED, Outcome.NOT_SENT, "The API reports no end or no price of its paid time any more.")
    if (
        operation.attempts
        and bought.before
        and amounts.near(paid.threshold, amounts.after(bought.before, bought.hours))
    ):
        note = f"It was told to ask again, and yet a reading shows it paid until {_words(paid.threshold)}."
        return End(State.SUCCEEDED, Outcome.OBSERVED, note, evidence=Evidence.READING, after=paid.threshold)
    if dto.get("status") in amounts.OVER or paid.threshold <= now:
        doing = "out of paid time" if paid.threshold <= now else dto.get("status")
        return End(State.REFUSED, Outcome.NOT_SENT, f"The engine is {doing}. {unsent(operation)}")
    if paid.threshold >= bought.target:
        note = f"It already runs until {_words(paid.threshold)}. {unsent(operation)}"
        return End(State.SUCCEEDED, Outcome.SATISFIED, note, after=paid.threshold)
    if changes := _changes(operation, paid):
        note = f"{' '.join(changes)} {unsent(operation)} Look again and confirm once more."
        return End(State.NEEDS_RECONFIRM, Outcome.OUTDATED, note, after=paid.threshold)
    try:
        asked = (operation.team, operation.requested_by_id, operation.engine, bought.hours, bought.cost, now)
        limits.check(*asked, without=operation.pk)
    except (limits.Frozen, limits.OverLimit) as refused:
        return End(State.CANCELLED, Outcome.NOT_SENT, f"{refused} {unsent(operation)}")
    return paid


def not_charged(operation: Operation) -> Outcome:
    """Say how a purchase ends that is not sent now: after a 429, it was refused."""
    return Outcome.REFUSED if operation.attempts else Outcome.NOT_SENT


def unsent(operation: Operation) -> str:
    """Say how much was sent, of a purchase that is not sent now: after a 429, it was sent and turned away."""
    return "Nothing more was sent." if operation.attempts else "Nothing was sent and nothing was charged."


def _changes(operation: Operation, paid: PaidTime) -> list[str]:
    bought, changes = operation.extension, []
    if paid.price != bought.seen_price:
        was, now = (amounts.dollars(cents * amounts.MICROCENTS_PER_CENT) for cents in (bought.seen_price, paid.price))
        changes.append(f"The price was {was} an hour when you confirmed; now it is {now}.")
    if paid.threshold != bought.seen_threshold:
        who = _who(operation)
        changes.append(
            f"Its paid time ended at {_words(bought.seen_threshold)} when you confirmed; "
            f"now it ends at {_words(paid.threshold)}, {who}."
        )
    return changes


def _who(operation: Operation) -> str:
    """Say who moved the deadline, as far as it is known here."""
    rows = LedgerEntry.objects.of(operation.team).filter(engine_uid=operation.uid)
    last = rows.filter(before=operation.extension.seen_threshold).order_by("-id").first()
    return f"extended by {last.user_name}" if last else "changed outside this portal"


def _words(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
