"""Inviting people into a team: a signed link that works once, for seven days, for one e-mail address.

Each change is one transaction with its audit entry. The link is made from the row when it is shown, and kept nowhere.
"""

from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import get_random_string

from portal import mail
from portal.accounts.models import Invitation, Membership, Team, User
from portal.accounts.roles import Role
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest

LIFETIME = timedelta(days=7)
SALT = "portal.invitation"
MAILED = "mailed"  # in the link that an admin never sees
MOST_OPEN = 100  # of a team: each is a mail that somebody gets


class Refused(Exception):
    """The invitation cannot be made or changed. `str()` says why."""


class State(StrEnum):
    """What following a link finds."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REVOKED = "revoked"
    EXPIRED = "expired"
    RENEWED = "renewed"  # a newer link was made
    WITHDRAWN = "withdrawn"  # who invited may not do so any more


class Found(NamedTuple):
    """An invitation by its link. `mailed`: by the one that only the invited mailbox was sent."""

    invitation: Invitation
    state: State
    mailed: bool


@transaction.atomic
def invite(request: PortalRequest, email: str, role: Role) -> Invitation:
    """Invite the e-mail address. Raises Refused if its person is in the team, or invited already."""
    team = _locked(request.team)
    email = email.lower()
    if Membership.objects.filter(team=team, user__email=email).exists():
        raise Refused(f"{email} is in {team} already.")
    if open_in(team).filter(email=email).exists():
        raise Refused(f"{email} is invited already. Send that invitation again, or revoke it.")
    if open_in(team).count() >= MOST_OPEN:
        raise Refused(f"{MOST_OPEN} invitations are open. Revoke some first.")
    made = Invitation(team=team, email=email, role=role, invited_by=request.user, invited_name=str(request.user)[:150])
    _renew(made)
    made.save()
    _record(request, made, "invitation.made", after={"email": email, "role": role.value})
    return made


@transaction.atomic
def resend(request: PortalRequest, number: int) -> Invitation:
    """Make a new link, for seven days, in the name of who asks; the old one ends. Raises Invitation.DoesNotExist."""
    row = _open(request, number)
    _renew(row)
    row.invited_by, row.invited_name = request.user, str(request.user)[:150]
    row.save()
    _record(request, row, "invitation.renewed", after={"email": row.email, "role": row.role})
    return row


@transaction.atomic
def revoke(request: PortalRequest, number: int) -> Invitation:
    """End the invitation. Raises Invitation.DoesNotExist."""
    row = _open(request, number)
    row.revoked_at = timezone.now()
    row.save()
    _record(request, row, "invitation.revoked", before={"email": row.email, "role": row.role})
    return row


@transaction.atomic
def accept(request: HttpRequest, invitation: Invitation, user: User, *, proven: bool) -> Membership:
    """Make the person a member, once. `user`, perhaps not saved yet, has the invited address. Raises Refused.

    `proven`: that the address is theirs is known, not only said. Who is in the team already keeps their role.
    """
    team = _locked(invitation.team)
    row = Invitation.objects.select_for_update().get(pk=invitation.pk)
    if state_of(row, row.nonce) != State.OPEN or row.nonce != invitation.nonce or user.email != row.email:
        raise Refused("This invitation cannot be used any more.")
    if user.pk is None:
        user.unproven_since = None if proven else timezone.now()
        user.save()
    elif proven:
        prove(user)
    row.accepted_at, row.accepted_by = timezone.now(), user
    row.save()
    member, is_new = Membership.objects.get_or_create(user=user, team=team, defaults={"role": row.role})
    if is_new:
        record(
            team=team,
            actor=user,
            action="member.added",
            target=user,
            origin=_origin(request, member.role),
            after={"role": member.role},
            invited_by=row.invited_name,
            address_proven=user.unproven_since is None,
        )
    return member


def prove(user: User) -> None:
    """Keep that the account's address is its person's."""
    user.unproven_since = None
    user.save(update_fields=["unproven_since"])


def find(token: str) -> Found | None:
    """Return the link's invitation and how it stands; None for what was never a link of ours."""
    try:
        pk, nonce, *way = signing.loads(token, salt=SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    row = Invitation.objects.select_related("team", "invited_by").filter(pk=pk).first()
    return None if row is None else Found(row, state_of(row, nonce), way == [MAILED])


def state_of(row: Invitation, nonce: str) -> State:
    if row.accepted_at:
        return State.ACCEPTED
    if row.revoked_at:
        return State.REVOKED
    if row.nonce != nonce:
        return State.RENEWED
    if row.expires_at <= timezone.now():
        return State.EXPIRED
    admins = Membership.objects.filter(team=row.team, user=row.invited_by, user__is_active=True, role=Role.ADMIN)
    return State.OPEN if admins.exists() else State.WITHDRAWN


def link(request: HttpRequest, row: Invitation, *way: str) -> str:
    """Return the address to open: under PORTAL_URL or, for the admin's own eyes, where this request came to."""
    path = reverse("join", args=[signing.dumps([row.pk, row.nonce, *way], salt=SALT)])
    return settings.PORTAL_URL + path if settings.PORTAL_URL else request.build_absolute_uri(path)


def mailed(request: HttpRequest, row: Invitation) -> bool:
    """Mail the link to the invited address, if mail and PORTAL_URL are configured; say whether that went well.

    Never with an address from the request: whoever sends the Host header would decide where the link leads.
    """
    if not (mail.is_configured() and settings.PORTAL_URL):
        return False
    body = (
        f"{row.invited_name} invites you to {row.team} as {row.get_role_display()}.\n\n{link(request, row, MAILED)}\n\n"
        f"The link works once, until {row.expires_at:%Y-%m-%d %H:%M} UTC. If you expected no invitation, do nothing."
    )
    return mail.send(row.email, f"{row.invited_name} invites you to {row.team}", body)


def open_in(team: Team) -> QuerySet[Invitation]:
    """Return the invitations that were neither accepted nor revoked, expired ones too."""
    return Invitation.objects.of(team).filter(accepted_at__isnull=True, revoked_at__isnull=True)


def _open(request: PortalRequest, number: int) -> Invitation:
    _locked(request.team)
    return open_in(request.team).select_related("team").get(pk=number)


def _locked(team: Team) -> Team:
    return Team.objects.select_for_update(no_key=True).get(pk=team.pk)


def _renew(row: Invitation) -> None:
    row.nonce, row.expires_at = get_random_string(22), timezone.now() + LIFETIME


def _origin(request: HttpRequest, role: str) -> Origin:
    return Origin(
        request_id=request.request_id,  # type: ignore[attr-defined]
        address=request.META.get("REMOTE_ADDR", ""),
        role=role,
    )


def _record(
    request: PortalRequest,
    row: Invitation,
    action: str,
    *,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    origin = Origin.of(request)
    record(team=row.team, actor=request.user, action=action, target=row, origin=origin, before=before, after=after)
