"""A database back from a backup does not know what was done since: what it believes to be due is held back."""

from datetime import datetime, timedelta

from django.db import transaction

from engines.enums import MONEY, State
from engines.models import Operation, Proposal
from engines.money.models import Outcome
from engines.money.record import End, record
from engines.operations.moves import move
from portal.accounts.models import Team
from portal.audit.log import record as audit
from portal.audit.models import Entry

ACTION = "backup.restored"
SHOWN = timedelta(days=7)
NOTE = "The portal’s data was restored from a backup: whether this was done meanwhile is unknown. Nothing was sent."


def restored_at(team: Team, now: datetime) -> datetime | None:
    """Return when the team's data was restored, as long as pages say so."""
    last = Entry.objects.of(team).filter(action=ACTION).order_by("-number").first()
    return last.at if last and now - last.at < SHOWN else None


@transaction.atomic
def hold_back(team: Team, now: datetime) -> int:
    """Send nothing that the backup believes unsent; return how many operations that were. Workers must not run yet.

    Purchases are to be confirmed again, other operations are cancelled, approvals that were waited for are void. What
    the backup knows as sent is settled by readings, as after any other crash.
    """
    waiting = Operation.objects.of(team).filter(state__in=(State.WAITING, State.REQUESTED, State.CHECKING))
    rows = list(waiting.select_related("team", "engine", "new_at", "requested_by"))
    for operation in rows:
        if operation.verb in MONEY:
            record(operation, End(State.NEEDS_RECONFIRM, Outcome.OUTDATED, f"{NOTE} Look again and confirm once more."))
        else:
            move(operation, State.CANCELLED, now=now, note=f"{NOTE} Look at the engine, and ask again if need be.")
    proposals = Proposal.objects.of(team).filter(state=Proposal.State.WAITING)
    void = proposals.update(state=Proposal.State.REJECTED, decided_at=now, decided_reason=NOTE)
    audit(team=team, actor=None, action=ACTION, target=team, operations=len(rows), proposals=void)
    return len(rows)
