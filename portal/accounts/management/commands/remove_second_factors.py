"""`manage.py remove_second_factors --email ada@example.com`: for somebody who has lost them all, recovery codes too.

Afterwards the password alone signs that person in. Ends their sessions; each of their teams finds it in the audit log.
"""

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from portal.accounts.models import User


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].lower()).first()
        if user is None:
            raise CommandError(f"Nobody here has the address {options['email']}.")
        number, _ = Authenticator.objects.filter(user=user).delete()
        self.stdout.write(f"{user.email} has no second factors any more ({number} removed)")
