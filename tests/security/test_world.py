"""What the walks walk through is whole: no kind of row is left out, and every address has one to be about."""

from django.apps import apps

from portal.accounts.access import TABLE
from tests.security.world import patterns

NOT_OURS = {
    "auth.Group",
    "auth.Permission",
    "contenttypes.ContentType",
    "account.EmailAddress",
    "account.EmailConfirmation",
}
LATER = {"engines.Freeze"}  # World.freeze(): while it is there, no money action gets far


def test_it_has_a_row_of_every_kind(world):
    kinds = [model for model in apps.get_models() if model._meta.app_label != "controlplane"]
    empty = {model._meta.label for model in kinds if not model._base_manager.exists()}
    assert empty - NOT_OURS == LATER


def test_every_address_has_one_to_be_about(world):
    assert {entry.name for entry in patterns()} == set(TABLE)
    assert [name for name in TABLE if not world.url(name).startswith("/")] == []
