"""A team with a short log, and the database's owner, whom no trigger stops."""

import pytest
from django.db import connection

from portal.audit import guard
from portal.audit.log import record


def write(team, user, count=5, **more):
    for number in range(count):
        record(team=team, actor=user, action="session.started", target=user, reason=f"reason {number}", **more)


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def log(acme, ada):
    write(acme, ada)
    return acme


@pytest.fixture
def owner(db):
    """The triggers are gone; so is the test's transaction in the end, and with it that they are."""
    guard.lower(connection)
