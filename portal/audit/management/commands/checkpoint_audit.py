"""`manage.py checkpoint_audit`: check every chain and note its end, signed, in DATA_DIR/audit-checkpoints."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from portal.audit.checks import check_all
from portal.audit.signing import public_key


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--public-key", action="store_true", help="print the Ed25519 public key in hex, and stop")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["public_key"]:
            self.stdout.write(public_key())
        else:
            self.stdout.write(f"{check_all()} checkpoints written")
