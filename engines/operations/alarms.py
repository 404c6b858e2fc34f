"""No operation rests unseen: how old it may grow in a state before pages, numbers and mails say so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet

from engines.enums import MONEY, State
from engines.models import Operation
from portal import mail
from portal.accounts.models import Membership, Team
from portal.accounts.roles import Role


@dataclass(frozen=True)
class Alarm:
    """Its words follow a number of operations. `since` is the column from which the age counts."""

    words: str
    after: timedelta = timedelta(0)
    since: str = "moved_at"


# A test holds that no open state is missing.
ALARMS: dict[State, Alarm] = {
    State.WAITING: Alarm("should have ended, as the engine did not come back", timedelta(minutes=1), "next_at"),
    # Not from when it was asked: one that waits for its turn is not due, nor is one that the API asked to wait.
    State.REQUESTED: Alarm("due for more than 30 seconds and not sent", timedelta(seconds=30), "next_at"),
    State.CHECKING: Alarm("being checked for more than 2 minutes", timedelta(minutes=2)),
    State.SENDING: Alarm("being sent for more than 4 minutes", timedelta(minutes=4)),  # a purchase's lease is over
    State.ACCEPTED: Alarm("accepted, with nothing to be seen of it for 5 minutes", timedelta(minutes=5)),
    State.WORKING: Alarm(
        "in progress for longer than they should be, and not read since", timedelta(minutes=1), "deadline_at"
    ),
    State.UNKNOWN: Alarm("unknown for more than 5 minutes", timedelta(minutes=5)),
    State.LOST_CONTACT: Alarm("without contact for more than 5 minutes", timedelta(minutes=5)),
    State.STUCK: Alarm("past the deadline"),
    State.NEEDS_ATTENTION: Alarm("in need of a decision"),
}
ORDERED = timedelta(minutes=35)  # a machine is a person's business after 30: it has no deadline of its own
MAIL_AFTER = timedelta(minutes=15)  # unknown
TOLD = (Role.ADMIN, Role.BILLING)
NAMED = 20  # in one mail


def late(now: datetime) -> Q:
    """Match what is older than its state allows."""
    found = Q(state=State.WORKING, verb__in=MONEY, moved_at__lte=now - ORDERED)
    for state, alarm in ALARMS.items():
        old = Q(state=state, **{f"{alarm.since}__lte": now - alarm.after})
        found |= old & ~Q(verb__in=MONEY) if state == State.WORKING else old
    return Q(found, finished_at__isnull=True)  # the index of what is open


def alarming(team: Team, now: datetime) -> QuerySet[Operation]:
    return Operation.objects.of(team).filter(late(now))


def banner(team: Team, now: datetime) -> list[dict[str, Any]]:
    """Return what pages say: for each state in which some are too old, how many, and in words what is wrong."""
    rows = alarming(team, now).order_by("state").values_list("state").annotate(Count("pk"))
    return [{"state": state, "number": number, "words": ALARMS[State(state)].words} for state, number in rows]


def people_to_tell(now: datetime) -> Iterator[Callable[[], None]]:
    """Yield a job for each team of which something stays unknown that nobody was written to about."""
    if not mail.is_configured():
        return
    for pk in set(_untold(now).values_list("team", flat=True)):
        yield partial(tell, pk, now)


def _untold(now: datetime) -> QuerySet[Operation]:
    untold = Q(told_at__isnull=True) | Q(told_at__lt=F("moved_at"))
    rows = Operation.objects.filter(untold, state=State.UNKNOWN, finished_at__isnull=True)
    return rows.filter(moved_at__lte=now - MAIL_AFTER)


def tell(team_id: int, now: datetime) -> None:
    """Write to the team's admins and billing staff, once: a mail that fails is not tried again."""
    found = list(_untold(now).filter(team=team_id).order_by("moved_at"))
    # Of two workers one has it.
    mine = [each for each in found if _untold(now).filter(pk=each.pk).update(told_at=now) == 1]
    if not mine:
        return
    minutes = MAIL_AFTER // timedelta(minutes=1)
    said = f"Whether these were done is not known: no answer came, and no reading has shown it for {minutes} minutes."
    more = [f"and {len(mine) - NAMED} more."] if len(mine) > NAMED else []
    body = "\n\n".join([said, *(_line(each) for each in mine[:NAMED]), *more])
    people = Membership.objects.filter(team=team_id, role__in=TOLD, user__is_active=True).select_related("user", "team")
    for member in people:
        mail.send(member.user.email, f"{len(mine)} of {member.team}’s operations unknown", body)


def _line(operation: Operation) -> str:
    page = f"\n{settings.PORTAL_URL}/operations/{operation.pk}/" if settings.PORTAL_URL else ""
    return f"{operation}, asked by {operation.requested_name}: {operation.note}{page}"
