"""`manage.py create_demo_keys`: several keys of the control plane at once, for the demo team; used by `manage.py up`.

Reads {who: [name, scopes]} as JSON on stdin and prints {who: key}.
"""

import io
import json
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = json.load(sys.stdin)
        self.stdout.write(json.dumps({who: create(name, scopes) for who, (name, scopes) in wanted.items()}))


def create(name: str, scopes: str) -> str:
    printed = io.StringIO()
    call_command("create_api_key", team="demo", name=name, scopes=scopes, stdout=printed)
    return printed.getvalue().strip()
