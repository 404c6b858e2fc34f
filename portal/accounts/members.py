"""Who is in a team, and as what. Each change is one transaction with its audit entry."""

from django.db import transaction

from portal.accounts.models import Membership, Team
from portal.accounts.roles import Role
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest
from portal.vault.keys import remove as forget
from portal.vault.models import StoredKey


class LastAdmin(Exception):
    """The team would be left with nobody who can change it."""

    def __str__(self) -> str:
        return "This is the team's last admin. Make somebody else an admin first."


@transaction.atomic
def change_role(request: PortalRequest, number: int, role: Role) -> Membership:
    """Give the member another role, which holds from their next request on.

    Raises Membership.DoesNotExist for anybody outside the request's team, and LastAdmin.
    """
    member = _locked(request.team, number)
    before = member.role
    if before == role:
        return member
    if role != Role.ADMIN:
        leave_an_admin(member)
    member.role = role
    member.save(update_fields=["role"])
    _record(request, member, "member.changed", {"role": before}, {"role": role.value})
    return member


@transaction.atomic
def remove(request: PortalRequest, number: int) -> Membership:
    """Take the member out of the team; the person and their entries in the audit log stay. Raises like change_role."""
    member = _locked(request.team, number)
    leave_an_admin(member)
    _record(request, member, "member.removed", {"role": member.role}, {})
    for key in StoredKey.objects.of(request.team).filter(user=member.user).select_related("connection", "team", "user"):
        forget(key, by=request.user, origin=Origin.of(request), reason="Its owner was removed from the team.")
    member.delete()
    return member


def _locked(team: Team, number: int) -> Membership:
    # All changes of a team wait for its row: of two last admins, only one can go at a time.
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    return Membership.objects.select_related("user", "team").get(team=team, pk=number)


def leave_an_admin(member: Membership) -> None:
    """Raise LastAdmin if the member is the only one. Only who holds the team's lock can rely on it."""
    admins = Membership.objects.filter(team=member.team, role=Role.ADMIN, user__is_active=True)
    if member.role == Role.ADMIN and not admins.exclude(pk=member.pk).exists():
        raise LastAdmin


def _record(
    request: PortalRequest, member: Membership, action: str, before: dict[str, str], after: dict[str, str]
) -> None:
    record(
        team=member.team,
        actor=request.user,
        action=action,
        target=member.user,
        origin=Origin.of(request),
        before=before,
        after=after,
    )
