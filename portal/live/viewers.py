"""Who watches, and whether they still may: asked for all streams of a process at once, in two queries."""

from collections.abc import Collection
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import connections
from django.utils import timezone

from portal.accounts.models import Membership
from portal.http import PortalRequest

CHUNK = 400  # names in one query: SQLite has a limit


@dataclass(frozen=True, slots=True)
class Viewer:
    """One stream's right to exist: a session, of a person, who has not changed their password, in a team, as this."""

    session_key: str
    user_id: int
    session_hash: str
    team_id: int
    role: str

    @classmethod
    def of(cls, request: PortalRequest) -> "Viewer":
        """Read the viewer off a request that the access check has let in: no query is left to make."""
        return cls(
            request.session.session_key or "",
            request.user.pk,
            request.user.get_session_auth_hash(),
            request.team.pk,
            request.membership.role,
        )


async def still_allowed(viewers: Collection[Viewer]) -> set[Viewer]:
    """Return those who would still be let in. Holds no database connection afterwards."""
    return await sync_to_async(_still_allowed, thread_sensitive=False)(list(viewers))


def _still_allowed(viewers: list[Viewer]) -> set[Viewer]:
    try:
        chunks = [viewers[start : start + CHUNK] for start in range(0, len(viewers), CHUNK)]
        return {viewer for chunk in chunks for viewer in _allowed(chunk)}
    finally:
        connections.close_all()


def _allowed(viewers: list[Viewer]) -> list[Viewer]:
    keys = {viewer.session_key for viewer in viewers}
    sessions = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now()).values_list(
            "session_key", flat=True
        )
    )
    users = {viewer.user_id for viewer in viewers}
    memberships = Membership.objects.filter(user__in=users, user__is_active=True).select_related("user")
    members = {(one.user_id, one.user.get_session_auth_hash(), one.team_id, one.role) for one in memberships}
    return [
        viewer
        for viewer in viewers
        if viewer.session_key in sessions
        and (viewer.user_id, viewer.session_hash, viewer.team_id, viewer.role) in members
    ]
