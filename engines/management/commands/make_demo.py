"""`manage.py make_demo`: the demo team, its people, and their keys to the embedded API. Reads JSON on stdin:

{"password": "…", "base_url": "http://127.0.0.1:8001", "keys": {"admin@demo.example": "inf_…", …}}
"""

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.up import PEOPLE as SCOPES
from portal.vault.keys import Secret, store
from portal.vault.models import Connection

PEOPLE = {
    "admin@demo.example": ("Ada Admin", Role.ADMIN),
    "billing@demo.example": ("Bill Billing", Role.BILLING),
    "auditor@demo.example": ("Audra Auditor", Role.AUDITOR),
}


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            given = json.load(sys.stdin)
            make(given["password"], given["base_url"], given["keys"])
        except (json.JSONDecodeError, KeyError) as error:
            raise CommandError(f"stdin is not the expected JSON: {error}") from error


@transaction.atomic
def make(password: str, base_url: str, keys: dict[str, str]) -> None:
    """Make what is missing, set the password and the API's address; store the keys that are given."""
    team, _ = Team.objects.get_or_create(slug="demo", defaults={"name": "Demo"})
    connection, _ = Connection.objects.update_or_create(
        team=team, name="Embedded control plane", defaults={"base_url": base_url}
    )
    for email, (name, role) in PEOPLE.items():
        user = User.objects.filter(email=email).first() or User.objects.create_user(email, name=name)
        user.set_password(password)
        user.save(update_fields=["password"])
        Membership.objects.get_or_create(user=user, team=team, defaults={"role": role})
        if email in keys:
            scopes = SCOPES[email].split(",")
            store(user=user, connection=connection, secret=Secret(keys[email]), label="Demo key", scopes=scopes)
