"""The keys that this API issues: random, shown once, kept as a hash."""

import hashlib
import json
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

from django.utils.timezone import now

from engines.controlplane import statements
from engines.controlplane.models import DATABASE, ApiKey, Team

PREFIX = "inf_"
SCOPES = {
    "engines:read": "See engines, their workers and releases",
    "engines:write": "Drain, update, extend, stop, restart, create and delete engines, and connect them",
    "tasks:read": "See tasks, their results and logs",
    "tasks:write": "Run and cancel tasks",
    "apps:execute": "Run and cancel tasks (the hosted API's word)",
    "apikeys:read": "See which keys there are",
    "apikeys:write": "Make and revoke keys",
    "billing:read": "See the balance and what was spent",
    "teams:read": "Follow everything that happens in the team",
}
# The hosted API's spelling of one of ours.
SAME = {"apps:execute": "tasks:write"}
# As SQL, because every `POST /run` asks it, twice, and Django takes longer to write it than a database to answer.
VALID = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %s)"
FIND = """
    SELECT k.id, CAST(k.scopes AS text), k.last_used_at IS NULL OR k.last_used_at < %s, t.id, t.slug, t.name
    FROM controlplane_apikey k JOIN controlplane_team t ON t.id = k.team_id WHERE k.digest = %s AND
"""
SCOPES_OF = "SELECT k.id, CAST(k.scopes AS text) FROM controlplane_apikey k WHERE k.id IN ({marks}) AND "
USED_EVERY = timedelta(minutes=1)  # how exact last_used_at is: not every reading should cost a write


def issue(
    team: Team, name: str, scopes: Collection[str] = (), expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key and return its row and its text, which nobody can read again. No scopes: full access."""
    text = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey.objects.create(
        team=team,
        name=name,
        prefix=text[:12],
        digest=digest(text),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    return row, text


def digest(text: str) -> str:
    # 256 random bits need neither salt nor stretching, and equal hashes can be looked up by index.
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def find(text: str) -> ApiKey | None:
    """Return the key that is valid now, with its team and what it may do, noting its use; None if there is none."""
    at = now()
    for key_id, scopes, is_news, *team in statements.ask(FIND + VALID, at - USED_EVERY, digest(text), at):
        key = ApiKey.from_db(DATABASE, ("id", "team_id", "scopes"), (key_id, team[0], json.loads(scopes)))
        key.team = Team.from_db(DATABASE, ("id", "slug", "name"), team)
        if is_news:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=at)
        return key
    return None


def grants(scopes: Collection[str], needed: str) -> bool:
    """Say whether a key with these scopes may do what `needed` stands for. Writing implies reading."""
    held = {*scopes, *(SAME[scope] for scope in scopes if scope in SAME)}
    resource, _, action = needed.partition(":")
    return not held or bool(held & {"*", needed}) or (action == "read" and f"{resource}:write" in held)


def serving(ids: Collection[str], scope: str = "engines:write") -> set[str]:
    """Return those of the keys that are valid and have the scope: as it is, those an engine may be connected with."""
    if not ids:
        return set()
    found = statements.ask(SCOPES_OF.format(marks=", ".join(["%s"] * len(ids))) + VALID, *ids, now())
    return {key_id for key_id, scopes in found if grants(json.loads(scopes), scope)}


def expand(scopes: Collection[str]) -> list[str]:
    """Return every scope that a key with these holds."""
    return [scope for scope in SCOPES if grants(scopes, scope)]
