"""The Celery application. Messages carry ids and only wake somebody up (see engines/tasks.py)."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["engines", "portal.accounts", "portal.audit"])


@setup_logging.connect
def keep_the_settings(**_: Any) -> None:
    """Celery sets up its own log, without request ids, unless somebody listens here: Django's is set up already."""
