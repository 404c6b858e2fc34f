"""Settings of the bench: the portal's, with Django's admin beside it as the peer."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, TEMPLATES

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.admin"]
TEMPLATES[0]["OPTIONS"]["context_processors"].append("django.template.context_processors.debug")
ROOT_URLCONF = "tests.benchmarks.urls"
