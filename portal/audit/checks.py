"""The periodic check: what it found is kept for the page, and where the chain ends is noted outside the database."""

import logging
from datetime import datetime, timedelta

from django.utils import timezone

from portal.accounts.models import Team
from portal.audit import checkpoints
from portal.audit.models import Check
from portal.audit.verify import verify

log = logging.getLogger(__name__)

COMPLETE_EVERY = timedelta(days=1)


def check_all() -> int:
    """Check every team's chain and note its end; return how many notes were made.

    Walks what is new; once a day, and as long as something is wrong, all of it. A broken chain is noted all the same:
    what is written after the fault deserves a witness too, and the older notes go on contradicting.
    """
    notes = 0
    for team in Team.objects.order_by("pk"):
        check(team, timezone.now())
        notes += checkpoints.write(team) is not None
    return notes


def check(team: Team, at: datetime) -> Check:
    """Check the team's chain and keep the result."""
    before = Check.objects.of(team).first()
    recent = before is not None and before.complete_at is not None and at - before.complete_at < COMPLETE_EVERY
    complete = before is None or not recent or bool(before.fault)
    _, fault = verify(team, since_checkpoint=not complete)
    if fault is not None:
        log.error("the audit log of team %s is broken: entry #%s %s", team.slug, fault.number, fault.words)
    found = {"at": at, "number": fault and fault.number, "fault": fault.words[:300] if fault else ""}
    complete_at = at if complete else before and before.complete_at
    return Check.objects.update_or_create(team=team, defaults=found | {"complete_at": complete_at})[0]
