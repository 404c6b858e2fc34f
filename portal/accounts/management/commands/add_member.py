"""`manage.py add_member --team acme --email ada@example.com --role admin [--name Ada]`: make the team, the person and
the membership as far as they are missing, or change the role. Reads a new person's password from stdin, one line.

An account that somebody made by an invitation's link, with whose address nobody knows, gets no role from here, unless
`--existing` vouches that it is its person's.
"""

import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email, validate_slug
from django.db import transaction

from portal.accounts.invitations import prove
from portal.accounts.members import LastAdmin, leave_an_admin
from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.audit.log import record


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, help="the team's short name, as in addresses")
        parser.add_argument("--email", required=True)
        parser.add_argument("--role", required=True, choices=Role.values)
        parser.add_argument("--name", default="")
        parser.add_argument(
            "--existing", action="store_true", help="the account that is there is that person's: I asked"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        email = options["email"].lower()
        try:
            validate_slug(options["team"])
            validate_email(email)
            user = User.objects.filter(email=email).first() or person(email, options["name"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        if user.unproven_since and not options["existing"]:
            raise CommandError(
                f"{email} has an account already, made by an invitation's link that others saw too: it may be somebody "
                "else's. Ask that person whether it is theirs, and run this again with --existing."
            )
        try:
            join(user, options["team"], options["role"])
        except LastAdmin as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{email} is {options['role']} of {options['team']}")


def person(email: str, name: str) -> User:
    """Return the new person, not saved. Raises ValidationError if the password is a weak one."""
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    user = User(email=email, name=name)
    validate_password(password, user)
    user.set_password(password)
    return user


@transaction.atomic
def join(user: User, slug: str, role: str) -> None:
    if user.pk is None:
        user.save()
    else:
        prove(user)
    team, _ = Team.objects.get_or_create(slug=slug, defaults={"name": slug})
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)  # as for each change of who is in it
    member = Membership.objects.filter(user=user, team=team).first()
    if member and role != Role.ADMIN:
        leave_an_admin(member)
    earlier = {"role": member.role} if member else {}
    Membership.objects.update_or_create(user=user, team=team, defaults={"role": role})
    record(team=team, actor=None, action="member.added", target=user, before=earlier, after={"role": role})
