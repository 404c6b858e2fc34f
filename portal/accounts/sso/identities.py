"""Which identities at a single sign-on provider are whose. Each change is one transaction with its audit entry."""

from allauth.mfa.models import Authenticator
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from portal.accounts import invitations, sessions
from portal.accounts.models import Identity, Invitation, User
from portal.accounts.sso.provider import Person


class OnlyWayIn(Exception):
    """Without this identity its person could sign in no more."""


def find(person: Person) -> Identity | None:
    return Identity.objects.select_related("user").filter(issuer=person.issuer, subject=person.subject).first()


def used(identity: Identity) -> None:
    Identity.objects.filter(pk=identity.pk).update(last_used_at=timezone.now())


@transaction.atomic
def link(request: HttpRequest, user: User, person: Person) -> Identity:
    """Link it to the account, unless it is somebody's already; return it. Other sessions of the account end."""
    identity, is_new = Identity.objects.select_related("user").get_or_create(
        issuer=person.issuer, subject=person.subject, defaults={"user": user}
    )
    if is_new:
        if person.email == user.email:
            invitations.prove(user)
        sessions.identity(request, user, "identity.added", str(identity))
        sessions.end_others(request, user, "a single sign-on was linked")
    return identity


@transaction.atomic
def join(request: HttpRequest, invitation: Invitation, person: Person) -> Identity:
    """Make an account without a password for the invited address. Raises invitations.Refused, or IntegrityError if
    somebody has that address, or that identity."""
    user = User(email=invitation.email, name=person.name)
    user.set_unusable_password()
    invitations.accept(request, invitation, user, proven=True)
    identity = Identity.objects.create(user=user, issuer=person.issuer, subject=person.subject)
    sessions.identity(request, user, "identity.added", str(identity))
    return identity


@transaction.atomic
def unlink(request: HttpRequest, user: User, number: int) -> None:
    """Unlink one of the person's identities; other sessions end. Raises OnlyWayIn, Identity.DoesNotExist."""
    User.objects.select_for_update().get(pk=user.pk)  # of two at once, the second sees what the first left
    identity = Identity.objects.select_related("user").get(user=user, pk=number)
    if not _other_ways_in(identity):
        raise OnlyWayIn
    identity.delete()
    sessions.identity(request, user, "identity.removed", str(identity))
    sessions.end_others(request, user, "a single sign-on was unlinked")


def _other_ways_in(identity: Identity) -> bool:
    user = identity.user
    passkeys = Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN)
    return (
        user.has_usable_password()
        or user.identities.exclude(pk=identity.pk).exists()
        or any(row.wrap().is_passwordless for row in passkeys)
    )
