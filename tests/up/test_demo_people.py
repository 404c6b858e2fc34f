"""The people of the demo, and what the portal knows of their keys."""

import pytest

from engines.management.commands.make_demo import make
from portal.up import PEOPLE
from portal.vault.models import StoredKey

pytestmark = pytest.mark.django_db


def test_each_key_of_the_demo_is_stored_with_the_scopes_that_it_was_made_with():
    make("correct horse battery", "http://127.0.0.1:8001", {email: f"inf_{email}" for email in PEOPLE})
    stored = {key.user.email: key.scopes for key in StoredKey.objects.select_related("user")}
    assert stored == {email: scopes.split(",") for email, scopes in PEOPLE.items()}
