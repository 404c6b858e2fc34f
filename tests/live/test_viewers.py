"""Who may go on watching."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.live.viewers import CHUNK, Viewer, still_allowed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def anna() -> Viewer:
    """Somebody who is signed in and a member."""
    user = User.objects.create_user("anna@example.org", "a password")
    team = Team.objects.create(slug="red", name="Red")
    Membership.objects.create(user=user, team=team, role=Role.AUDITOR)
    session = SessionStore()
    session.save()
    return Viewer(session.session_key or "", user.pk, user.get_session_auth_hash(), team.pk)


def allowed(*viewers: Viewer) -> set[Viewer]:
    return asyncio.run(still_allowed(viewers))


def sign_out(viewer: Viewer) -> None:
    SessionStore(viewer.session_key).delete()


def expire(viewer: Viewer) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def leave_team(viewer: Viewer) -> None:
    Membership.objects.filter(user=viewer.user_id).delete()


def deactivate(viewer: Viewer) -> None:
    User.objects.filter(pk=viewer.user_id).update(is_active=False)


def change_password(viewer: Viewer) -> None:
    user = User.objects.get(pk=viewer.user_id)
    user.set_password("another password")
    user.save()


def test_a_member_who_is_signed_in_may_watch(anna: Viewer) -> None:
    assert allowed(anna) == {anna}


@pytest.mark.parametrize("change", [sign_out, expire, leave_team, deactivate, change_password])
def test_who_lost_the_right_may_not(anna: Viewer, change: Callable[[Viewer], None]) -> None:
    change(anna)
    assert allowed(anna) == set()


def test_nobody_may_watch_another_team(anna: Viewer) -> None:
    blue = Team.objects.create(slug="blue", name="Blue")
    assert allowed(Viewer(anna.session_key, anna.user_id, anna.session_hash, blue.pk)) == set()


def test_more_viewers_than_fit_one_query_are_all_asked_for(anna: Viewer) -> None:
    crowd = [Viewer(f"gone-{number}", 1, "", 1) for number in range(CHUNK)]
    assert allowed(*crowd, anna) == {anna}
