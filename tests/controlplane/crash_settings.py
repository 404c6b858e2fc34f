"""The API's settings, in a process that tests may have killed at a named place."""

from tests.settings import *  # noqa: F403

FAILPOINTS_ALLOWED = True
