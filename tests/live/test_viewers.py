"""Who may go on watching."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
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
def watching(victor: User, acme: Team) -> Viewer:
    """Victor, who is signed in and a member."""
    session = SessionStore()
    session.save()
    return Viewer(session.session_key or "", victor.pk, victor.get_session_auth_hash(), acme.pk, "viewer")


def allowed(*viewers: Viewer) -> set[Viewer]:
    return asyncio.run(still_allowed(viewers))


def sign_out(viewer: Viewer) -> None:
    SessionStore(viewer.session_key).delete()


def expire(viewer: Viewer) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def leave_team(viewer: Viewer) -> None:
    Membership.objects.filter(user=viewer.user_id).delete()


def change_role(viewer: Viewer) -> None:
    Membership.objects.filter(user=viewer.user_id).update(role=Role.BILLING)


def deactivate(viewer: Viewer) -> None:
    User.objects.filter(pk=viewer.user_id).update(is_active=False)


def change_password(viewer: Viewer) -> None:
    user = User.objects.get(pk=viewer.user_id)
    user.set_password("another password")
    user.save()


def test_a_member_who_is_signed_in_may_watch(watching: Viewer) -> None:
    assert allowed(watching) == {watching}


@pytest.mark.parametrize("change", [sign_out, expire, leave_team, change_role, deactivate, change_password])
def test_who_lost_the_right_may_not(watching: Viewer, change: Callable[[Viewer], None]) -> None:
    change(watching)
    assert allowed(watching) == set()


def test_nobody_may_watch_another_team(watching: Viewer, other_team: Team) -> None:
    assert allowed(replace(watching, team_id=other_team.pk)) == set()


def test_more_viewers_than_fit_one_query_are_all_asked_for(watching: Viewer) -> None:
    crowd = [Viewer(f"gone-{number}", 1, "", 1, "") for number in range(CHUNK)]
    assert allowed(*crowd, watching) == {watching}
