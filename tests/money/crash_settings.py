"""The portal's settings, in a worker process that tests may have killed or stopped at a named place."""

from tests.settings import *  # noqa: F403

FAILPOINTS_ALLOWED = True
